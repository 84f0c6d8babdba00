"""What a training step costs with cached targets, with sampled shifts and with the full grid.

Claim:    with cached targets a step costs the student alone; the full grid costs many times that
Source:   paper, Eq. 6; the FLOPs of a step are 3 passes for the student, forward and backward, and one per shift
Command:  python recipes/benchmarks/cached_targets.py
Takes:    about 1 minute on 2 CPU cores (the demo's backbone, batches of 4 crops of 96x96, d = 3)

A step is what `SRTDistillation` does in one: target, student's pass, loss, backward, AdamW. Its reference is the same
step with a target that lies in memory, the student alone. Cached targets are looked up on disk by the crops' pixels, in
a cache that this script fills. Loading and cropping images is left out: it is the same for all.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import torch
from measuring import RESULTS, write_table
from torch import Tensor, nn

from srt_distill.backbone import FeatureExtractor, backbone_normalization, describe_backbone, load_backbone
from srt_distill.ensemble import StochasticResonance
from srt_distill.latency import time_pairs
from srt_distill.training.losses import feature_distance
from srt_distill.training.target_cache import CacheLayout, TargetCache, fill_shards, prepare_folder
from srt_distill.training.targets import AllShifts, SampledShifts

BACKBONE = Path(__file__).resolve().parents[2] / "checkpoints" / "demo"
Batches = list[Tensor]  # uint8 crops (B, 3, H + 2m, W + 2m)


class Step:
    """One training step after another, each on the next batch.

    Args:
        student: The model that is trained.
        target: Maps (B, C, h, w) of a batch: the crops in bytes, normalised, and the number of the step.
        batches: Batches, gone through again and again.
        normalize: Bytes to what the backbone takes.
        margin: m, real pixels round each crop.
    """

    def __init__(
        self,
        student: nn.Module,
        target: Callable[[Tensor, Tensor, int], tuple[Tensor, ...]],
        batches: Batches,
        normalize: Callable[[Tensor], Tensor],
        margin: int,
    ) -> None:
        self.target, self.normalize, self.margin = target, normalize, margin
        self.batches: Iterator[Tensor] = cycle(batches)
        self.features = FeatureExtractor(student)
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)
        self.number = 0

    def __call__(self) -> None:
        """Take a step."""
        batch = next(self.batches)
        images = self.normalize(batch)
        with torch.no_grad():
            targets = self.target(batch, images, self.number)
        inner = slice(self.margin, -self.margin)
        loss = feature_distance(self.features(images[..., inner, inner])[0], targets[0].float())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.number += 1


def fill_cache(folder: Path, batches: Batches, compute: Callable[[Tensor], tuple[Tensor, ...]]) -> TargetCache:
    """Make a cache of the targets of all crops."""
    crops, size = torch.cat(batches), len(batches[0])
    settings = {"model.layers": [-1]}
    manifest = prepare_folder(folder, settings, CacheLayout(len(crops), 4 * size))
    shards = range(CacheLayout(len(crops), 4 * size).num_shards)
    for _ in fill_shards(
        folder, manifest, shards, lambda parts: (crops[part.start : part.stop] for part in parts), compute, size
    ):
        pass
    return TargetCache(folder, settings)


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=f"local-dir:{BACKBONE}")
    parser.add_argument("--crop", type=int, default=96, help="side in pixels")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4, help="different batches, all of them cached")
    parser.add_argument("--radius", type=int, default=3, help="shift radius and margin in pixels")
    parser.add_argument("--shifts_per_step", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)

    device = torch.device(options.device)
    student, teacher = (load_backbone(options.backbone).eval().to(device) for _ in range(2))
    teacher.requires_grad_(False)
    info = describe_backbone(teacher)
    normalize = backbone_normalization(teacher)

    side = options.crop + 2 * options.radius
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(0, 256, (options.batch_size, 3, side, side), generator=generator, dtype=torch.uint8).to(device)
        for _ in range(options.batches)
    ]
    srt = StochasticResonance(
        FeatureExtractor(teacher), options.radius, views_per_batch=options.shifts_per_step, margin=options.radius
    )
    full, sampled = AllShifts(), SampledShifts(options.shifts_per_step)
    with tempfile.TemporaryDirectory() as folder:
        with torch.no_grad():
            cache = fill_cache(Path(folder), batches, lambda crops: srt(normalize(crops)))
            in_memory = srt(normalize(batches[0]))[0]

        def step(target: Callable[[Tensor, Tensor, int], tuple[Tensor, ...]]) -> Step:
            return Step(student, target, batches, normalize, options.radius)

        alone = step(lambda crops, images, number: (in_memory,))
        k = options.shifts_per_step
        ways = {
            "cached targets": (0, step(lambda crops, images, number: cache(crops))),
            f"{k} sampled shifts": (k, step(lambda crops, images, number: sampled(crops, images, srt, (0, number)))),
            "full grid": (len(srt.shifts), step(lambda crops, images, number: full(crops, images, srt, (0, number)))),
        }
        rows = [["student alone (target in memory)", "0", "", "1"]]
        for name, (passes, way) in ways.items():
            latency = time_pairs(way, alone, device, max_pairs=options.pairs, budget=40.0)
            ratio = f"{latency.ratio:.2f} ({latency.ratio_low:.2f} to {latency.ratio_high:.2f})"
            rows.append([name, str(passes), f"{1000 * latency.seconds:.0f} ms", ratio])
            rows[0][2] = f"{1000 * latency.reference_seconds:.0f} ms"
    batch, side = options.batch_size, options.crop
    claim = f"""Time of a training step ({info.name}, batch of {batch} crops of {side}x{side}, shift radius
{options.radius}) by where its target comes from, each timed in turns with the step of the student alone; medians over
up to {options.pairs} pairs, with their intervals."""
    header = ["target", "teacher passes per step", "step", "over the student alone"]
    write_table(options.output, "cached_targets", claim, device, header, rows)


if __name__ == "__main__":
    main()
