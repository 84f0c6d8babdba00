"""Claim: what limits a student is how little of the gap to SRT it closes on images and grids it was not trained on.

`val/gap_closed` of a run is measured on held-out crops of the same kind, from the same videos, as those it was trained
on. Here any students are measured on crops of the train and of the val videos, at the size of training and at the size
of scoring, under the frozen original's SRT. The row of bilinear features, tokens smoothed and nothing trained (paper,
Table 8), tells how much of the gap smoothing alone closes.

Run:       python recipes/gap_elsewhere.py --students runs/distill_rounds/seed-0/round-1 runs/mine
Hardware:  a CPU will do: about two minutes for two students of DeiT-Tiny
Expected:  the gap closed falls from train to val and from small crops to large ones; that of bilinear features does
           not. Writes results.jsonl and README.md to recipes/results/gap_elsewhere.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from davis_rows import RESULTS, SHARED, RowFile, markdown_table, weights_file
from torch import Tensor

from srt_distill import FeatureExtractor, StochasticResonance, UnlabeledImages
from srt_distill.backbone import BackboneOptions, describe_backbone, hash_weights
from srt_distill.comparison.candidates import choose_device
from srt_distill.comparison.rows import plain
from srt_distill.data import DavisFrames
from srt_distill.ensemble.baselines import InterpolatedFeatures
from srt_distill.ensemble.shifts import Subset
from srt_distill.extractor import Extractor
from srt_distill.files import write_file
from srt_distill.runs import open_backbone
from srt_distill.training.feature_metrics import GapClosed
from srt_distill.training.held_out_scores import crop_margin

Crops = tuple[str, float, tuple[int, int]]
"""Split of DAVIS, resize factor, and height and width in pixels."""

CROPS: tuple[Crops, ...] = (
    ("train", 0.5, (224, 384)),
    ("train", 1.0, (448, 768)),
    ("val", 0.5, (224, 384)),
    ("val", 1.0, (224, 384)),
    ("val", 1.0, (448, 768)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="deit_tiny_patch16_224", help="the original: timm name or a folder")
    parser.add_argument("--weights", default=SHARED / "weights" / "deit_tiny_patch16_224.safetensors")
    parser.add_argument("--students", nargs="+", required=True, help="runs or exports")
    parser.add_argument("--data", type=Path, default=SHARED / "DAVIS", help="DAVIS folder")
    parser.add_argument("--num_images", type=int, default=16, help="crops of a column, each of another random frame")
    parser.add_argument("--shift_radius", type=int, default=3)
    parser.add_argument("--shift_subset", default="grid9", help="shifts of SRT: grid9, checkerboard, full, …")
    parser.add_argument("--seed", type=int, default=0, help="of the crops")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=RESULTS / "gap_elsewhere")
    options = parser.parse_args(arguments)
    options.device = choose_device(options.device)

    teacher = open_backbone(BackboneOptions(options.backbone, weights_file(options))).to(options.device)
    single = FeatureExtractor(teacher)
    extractors: dict[str, Extractor] = {"bilinear features": InterpolatedFeatures(single, "bilinear")}
    digests = {"bilinear features": "bilinear"}
    for name in options.students:
        student = open_backbone(BackboneOptions(name)).to(options.device)
        extractors[name], digests[name] = FeatureExtractor(student), hash_weights(student)

    rows = RowFile(options.output / "results.jsonl")
    info = describe_backbone(teacher)
    keys = ("num_images", "shift_radius", "shift_subset", "seed")
    fixed = {"teacher": hash_weights(teacher), **{key: getattr(options, key) for key in keys}}
    gaps: dict[str, list[float]] = {name: [] for name in extractors}
    for crops in CROPS:
        split, scale, size = crops
        named = {"split": split, "scale": scale, "crop_size": list(size)}
        settings = {name: {**fixed, **named, "features": digest} for name, digest in digests.items()}
        missing = {name: extractors[name] for name, given in settings.items() if rows.find(given) is None}
        images = read_crops(options, crops, info.patch_size) if missing else []
        closed = measure(missing, single, images, info.mean, info.std, options.shift_radius, options.shift_subset)
        found = {name: {"gap_closed": value} for name, value in closed.items()}
        for name, given in settings.items():
            result = rows.get(given, {"features": name, **named}, partial(found.__getitem__, name))
            gaps[name].append(result["gap_closed"])

    header = ["features", *(f"{split} at {scale:g}, {size[0]}x{size[1]}" for split, scale, size in CROPS)]
    table = markdown_table(header, [[name, *map(plain, values)] for name, values in gaps.items()])
    page = (
        f"# The gap closed elsewhere\n\n{Path(options.backbone).name}, last block; share of the squared distance from "
        f"the teacher's single pass to its SRT (d={options.shift_radius} {options.shift_subset}) that one pass closes, "
        f"over {options.num_images} random crops a column: DAVIS split, resize factor, crop in pixels.\n\n{table}"
    )
    write_file(options.output / "README.md", page)
    print(page)


def read_crops(options: argparse.Namespace, crops: Crops, patch: int) -> list[Tensor]:
    """Random crops with a margin for the shifts, uint8 (1, 3, H+2d, W+2d), one a frame."""
    split, scale, size = crops
    data = UnlabeledImages(
        DavisFrames(options.data, split),
        crop_size=size,
        margin=options.shift_radius,
        scale=scale,
        batch_size=1,
        num_workers=0,
        held_out=0,
        patch=patch,
        seed=options.seed,
    )
    data.setup("fit")
    return list(islice(cast(Iterable[Tensor], data.train_dataloader()), options.num_images))


@torch.inference_mode()
def measure(
    extractors: dict[str, Extractor],
    single: FeatureExtractor,
    crops: Iterable[Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    radius: int,
    subset: Subset,
) -> dict[str, float]:
    """Share of the gap that each extractor closes.

    Args:
        extractors: What to measure, by name.
        single: The original's single pass.
        crops: uint8 (1, 3, H+2d, W+2d).
        mean: Per channel, what images are normalised with.
        std: Per channel.
        radius: d, in pixels; also the crops' margin.
        subset: Shifts that SRT averages.
    """
    srt = StochasticResonance(single, radius, margin=radius, views_per_batch="auto", subset=subset)
    device = next(single.model.parameters()).device
    metrics = {name: GapClosed().to(device) for name in extractors}
    center, scale = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
    for crop in crops:
        images = (crop.to(device) / 255 - center) / scale
        inner = crop_margin(images, radius)
        (theirs,), (target,) = single(inner), srt(images)
        for name, extract in extractors.items():
            metrics[name].update(extract(inner)[0], theirs, target)
    return {name: metric.compute().item() for name, metric in metrics.items()}


if __name__ == "__main__":
    main()
