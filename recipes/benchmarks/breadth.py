"""SRT, its distillation and the export work with nearly every timm backbone; the rest is refused with a reason.

Claim:    over 250 timm names pass (of some 425 that are listed), of vision transformers, hierarchical networks and CNNs
Command:  python recipes/benchmarks/breadth.py [--only 'vit_small*']
Takes:    2 to 8 seconds a name on a busy CPU core; no network, no data
Writes:   results.jsonl (one line per name) and README.md (one line per family) in recipes/results/benchmarks/breadth;
          names that are there already are skipped, those that failed are tried again

For every name of the families in breadth_families.py a randomly initialised model is built, made small in depth and
width; what is its own (positions, prefix tokens, stages, norms, patch side) stays. It goes through:

  extract   maps of a first, a middle and the last layer have the declared channels and strides
  radius 0  SRT of radius 0 is the single pass, to the bit
  oracle    SRT of radius 1 is Algorithm 1 written out at pixel resolution in float64 (to 1e-5 of the largest feature)
  constant  an image of one colour is a fixed point: SRT keeps every channel's mean and never leaves its range, so that
            a flat map stays what it is (where a network knows positions, or pads, no map is flat)
  distil    20 steps of `SRTDistillation` on one batch lower the training loss (peak learning rate 1e-4, else 1e-5)
  export    the student saved and reloaded by timm alone: keys and shapes of the teacher, features of the student to the
            bit, and no longer those of the teacher

A row is `pass`, `refused` (no features: the package raised a ValueError that says why) or `failed` (anything else).
"""

import argparse
import fnmatch
import json
import logging
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import timm
import torch
import torch.nn.functional as F
from breadth_families import family_of, names_in_turns
from breadth_table import format_table
from measuring import RESULTS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from srt_distill.backbone import BackboneInfo, FeatureExtractor, build_backbone, describe_backbone, save_backbone
from srt_distill.backbone.options import BackboneOptions
from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import grid_shifts
from srt_distill.extractor import Extractor
from srt_distill.files import write_file
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.settings import TargetSRTOptions

RADIUS = 1
STEPS = 20
LEARNING_RATES = (1e-4, 1e-5)  # the second where random weights are too steep for the first
TOLERANCE = 1e-5  # of the largest feature, fp32


def make_images(num: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Images (num, 3, H, W) of bytes with structure at several scales, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(num, 3, height, width)
    for cells in (3, 6, 12, 24):
        noise = torch.randn(num, 3, cells, cells, generator=generator) / cells**0.5
        total += F.interpolate(noise, size=(height, width), mode="bicubic")
    return (128 + 60 * total).clamp(0, 255).to(torch.uint8)


def choose_layers(info: BackboneInfo) -> tuple[int, ...]:
    """Choose a first, a middle and the last layer, of those whose cells are larger than the shift."""
    usable = [layer for layer, stride in enumerate(info.strides) if stride > RADIUS]
    return tuple(sorted({usable[0], usable[len(usable) // 2], usable[-1]}))


def literal_srt(extract: Extractor, images: Tensor) -> tuple[Tensor, ...]:
    """Algorithm 1 at pixel resolution in float64: repeat every token over its pixels, shift back, average, pool."""
    height, width = images.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    sums: list[Any] = []
    shifts = grid_shifts(RADIUS)
    for dy, dx in shifts:
        moved = images[..., (rows - dy).clamp(0, height - 1), :][..., (columns - dx).clamp(0, width - 1)]
        maps = extract(moved)
        sums = sums or [0.0] * len(maps)
        for i, features in enumerate(maps):
            pixels = features.double().repeat_interleave(height // features.shape[-2], dim=-2)
            pixels = pixels.repeat_interleave(width // features.shape[-1], dim=-1)
            sums[i] += pixels[..., (rows + dy).clamp(0, height - 1), :][..., (columns + dx).clamp(0, width - 1)]
    return tuple(
        F.adaptive_avg_pool2d(total / len(shifts), (features.shape[-2], features.shape[-1]))
        for total, features in zip(sums, extract(images), strict=True)
    )


def relative_error(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """Largest difference over all maps, as a share of each map's largest feature."""
    pairs = zip(ours, theirs, strict=True)
    return max(
        ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-12)).item() for a, b in pairs
    )


def drift(single: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> float:
    """How far means move and values leave their channel's range, as a share of each map's largest feature."""
    found = 0.0
    for before, after in zip(single, ours, strict=True):
        low, high = before.amin((2, 3), keepdim=True), before.amax((2, 3), keepdim=True)
        means = (after.double().mean((2, 3)) - before.double().mean((2, 3))).abs().max()
        outside = torch.maximum(low - after, after - high).max()
        found = max(found, (max(means.item(), outside.item())) / before.abs().max().clamp(min=1e-12).item())
    return found


@torch.no_grad()
def check_features(
    model: nn.Module, info: BackboneInfo, layers: tuple[int, ...], size: tuple[int, int]
) -> dict[str, Any]:
    """Try extraction and the laws of SRT; return the errors found, raise RuntimeError where a law does not hold."""
    images = (make_images(2, *size) / 255 - 0.5) * 4
    extract = FeatureExtractor(model, layers)
    single = extract(images)
    expected = [
        (2, info.channels[layer], size[0] // info.strides[layer], size[1] // info.strides[layer]) for layer in layers
    ]
    require(
        [tuple(m.shape) for m in single] == expected, f"maps {[tuple(m.shape) for m in single]}, declared {expected}"
    )
    require(all(bool(m.isfinite().all()) for m in single), "features are not finite")
    require(
        torch.equal(FeatureExtractor(model)(images)[0], single[-1]), "the last layer alone differs from it among others"
    )
    require(
        all(map(torch.equal, StochasticResonance(extract, radius=0)(images), single)), "radius 0 is not the single pass"
    )
    srt = StochasticResonance(extract, radius=RADIUS)
    oracle = relative_error(srt(images), literal_srt(extract, images))

    constant = images.mean((2, 3), keepdim=True).expand_as(images)
    moved = drift(extract(constant), srt(constant))
    require(oracle <= TOLERANCE, f"SRT is {oracle:.1e} off the literal oracle")
    require(moved <= TOLERANCE, f"an image of one colour moves by {moved:.1e}")
    return {"oracle_error": oracle, "constant_error": moved}


class LossRecord(pl.Callback):
    """Keeps the training loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Note the loss just logged."""
        self.losses.append(trainer.callback_metrics["train/loss"].item())


def distil(
    folder: Path, layers: tuple[int, ...], size: tuple[int, int], learning_rate: float
) -> tuple[nn.Module, list[float]]:
    """Twenty steps on one batch; returns the student and the loss of every step."""
    module = SRTDistillation(
        BackboneOptions(f"local-dir:{folder}"),
        layers=layers,
        srt=TargetSRTOptions(radius=RADIUS, views_per_batch=9),
        optimizer=partial(torch.optim.AdamW, lr=learning_rate, weight_decay=0.0),
    )
    record = LossRecord()
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record],
    )
    batch = make_images(2, size[0] + 2 * RADIUS, size[1] + 2 * RADIUS, seed=1)
    loader = DataLoader([batch] * STEPS, batch_size=None)  # pyright: ignore[reportArgumentType]  a list will do
    trainer.fit(module, train_dataloaders=loader)
    require(len(record.losses) == STEPS, f"{len(record.losses)} steps ran")
    return module.student, record.losses


def check_distillation(folder: Path, layers: tuple[int, ...], size: tuple[int, int]) -> tuple[nn.Module, dict]:
    """Distil at the first learning rate that lowers the loss; returns the student and the numbers of the row."""
    found: dict[str, float] = {}
    for learning_rate in LEARNING_RATES:
        student, losses = distil(folder, layers, size, learning_rate)
        found = {"learning_rate": learning_rate, "loss_before": losses[0], "loss_after": losses[-1]}
        if losses[-1] < losses[0]:
            return student, found
    raise RuntimeError(f"the loss did not fall: {found}")


@torch.no_grad()
def check_export(student: nn.Module, teacher: nn.Module, folder: Path, size: tuple[int, int]) -> None:
    """Save the student, load it with timm alone, compare."""
    save_backbone(student, folder)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (plain, student, teacher)]
    require(shapes[0] == shapes[1] == shapes[2], "keys or shapes of the export differ from the teacher's")
    images = (make_images(1, *size, seed=2) / 255 - 0.5) * 4
    models: tuple[Any, ...] = (plain, student, teacher)
    reloaded, ours, theirs = (m.forward_features(images) for m in models)
    require(torch.equal(reloaded, ours), "the export differs from the student")
    require(not torch.equal(reloaded, theirs), "the student never moved")


def require(holds: bool, fault: str) -> None:
    """Fail the row where a claim does not hold."""
    if not holds:
        raise RuntimeError(fault)


def check_model(name: str) -> dict[str, Any]:
    """One row of the table."""
    start = time.perf_counter()
    family = family_of(name)
    if family is None:
        raise ValueError(f"{name} is of no family in breadth_families.py; add it to one")
    row: dict[str, Any] = {"name": name, "family": family.title}
    try:
        torch.manual_seed(0)
        model = build_backbone({"architecture": name, "model_args": family.small, "num_classes": 0})
        info = describe_backbone(model)
        layers = choose_layers(info)
        size = info.fixed_size or (2 * info.patch_size, 3 * info.patch_size)
        row |= {"layers": layers, "strides": [info.strides[i] for i in layers], "image": size}
        row |= {"any_size": info.fixed_size is None, "num_parameters": info.num_parameters}
        row |= check_features(model, info, layers, size)
        with tempfile.TemporaryDirectory() as scratch:
            save_backbone(model, Path(scratch) / "teacher")
            student, numbers = check_distillation(Path(scratch) / "teacher", layers, size)
            check_export(student, model, Path(scratch) / "student", size)
        row |= {**numbers, "status": "pass"}
    except Exception as error:  # a row that fails must not stop the others
        refused = isinstance(error, ValueError) and "oracle_error" not in row  # said before anything was trained
        row |= {"status": "refused", "reason": str(error)} if refused else {"status": "failed", "reason": repr(error)}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Run the rows that are not done and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="names to run, with wildcards; the table keeps the others' rows")
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS / "breadth",
        help="folder of results.jsonl and README.md",
    )
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("timm").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    rows = {row["name"]: row for row in map(json.loads, lines) if row["status"] != "failed"}
    for name in names_in_turns():
        if name in rows or not fnmatch.fnmatch(name, options.only):
            continue
        row = rows[name] = check_model(name)
        write_file(results, "".join(json.dumps(row) + "\n" for row in rows.values()))
        write_file(options.output / "README.md", format_table(list(rows.values())))
        print(f"{row['status']:8} {row['seconds']:6.1f} s  {name}  {row.get('reason', '')[:150]}", flush=True)


if __name__ == "__main__":
    main()
