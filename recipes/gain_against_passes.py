"""Claim: a few sampled shifts a step teach what all 49 teach, at a fraction of the training FLOPs.

A student is trained from the same start on the same crops with k = 1, 2, 4, 9, 25 or all 49 shifts a step, twice:

  equal steps    every k takes `--steps` steps, so that only the noise of the target differs
  equal compute  every k gets the FLOPs that `--compute_of` shifts (9) take in `--steps` steps: few shifts, more steps

A step costs k + 3 passes of the backbone: k of the teacher, and the student's forward and backward (twice a forward).
Each student is judged by `gap_closed` on held-out crops and by J&F on DAVIS val sequences in one pass. The learning
rate runs through one cycle in every run, however long.

Bar:       some k of at most 7 reaches 95% of the gap that 49 shifts close in as many steps, at 1/7 of the FLOPs.
Run:       python recipes/gain_against_passes.py --data path/to/DAVIS --weights path/to/deit_tiny.safetensors
           (DeiT-Tiny, half-size frames; half an hour or more on 2 CPU cores, 80 minutes on busy ones)
Expected:  gap_closed .48 .52 .55 .55 .56 .56 for k = 1 2 4 9 25 49 in 150 steps, so that k = 4 meets the bar; at equal
           compute few shifts and more steps win (.60 for k = 4, .26 for 49). Writes results.jsonl, README.md and
           gain.png to recipes/results/gain_against_passes and skips finished rows, so that a killed run goes on.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from srt_distill import (
    FeatureExtractor,
    SRTDistillation,
    StochasticResonance,
    UnlabeledImages,
    evaluate_davis,
    load_backbone,
)
from srt_distill.backbone import describe_backbone, hash_weights
from srt_distill.comparison.candidates import choose_device
from srt_distill.data import DavisFrames
from srt_distill.ensemble.shifts import grid_shifts
from srt_distill.files import replaced_file, write_file
from srt_distill.training.feature_metrics import GapClosed

STUDENT_PASSES = 3  # a forward, and a backward of twice its multiplications
SMALL_COST, ENOUGH = 1 / 7, 0.95  # the bar: share of the full grid's FLOPs, and of the gap that it closes
SETTINGS = ("backbone", "radius", "crop", "scale", "batch_size", "lr", "held_out", "sequences")
MODES = {"steps": "equal steps", "compute": "equal compute"}


class HeldOutGap:
    """`gap_closed` of any student: SRT of the held-out crops is computed once for all of them.

    Args:
        teacher: The frozen original.
        data: Crops; their held-out part is used.
        radius: d, in pixels; also the crops' margin.
        device: Where to extract.
    """

    def __init__(self, teacher: nn.Module, data: UnlabeledImages, radius: int, device: torch.device) -> None:
        info, extract = describe_backbone(teacher), FeatureExtractor(teacher)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (info.mean, info.std))
        srt = StochasticResonance(extract, radius, margin=radius, views_per_batch="auto")
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        data.setup("fit")
        with torch.inference_mode():
            for batch in cast(Iterable[Tensor], data.val_dataloader()):
                images = ((batch / 255 - mean) / std).to(device)
                crop = images[..., radius:-radius, radius:-radius]
                self._batches.append((crop, extract(crop)[0], srt(images)[0]))

    def __call__(self, student: nn.Module) -> float:
        """Share of the distance from the teacher's single pass to its SRT that the student has covered."""
        metric, extract = GapClosed().to(self._batches[0][0].device), FeatureExtractor(student)
        with torch.inference_mode():
            for crop, single, srt in self._batches:
                metric.update(extract(crop)[0], single, srt)
        return metric.compute().item()


def make_data(options: argparse.Namespace) -> UnlabeledImages:
    """Crops of DAVIS train with a margin of real pixels, some of them held out."""
    return UnlabeledImages(
        DavisFrames(options.data, "train"),
        crop_size=tuple(options.crop),
        margin=options.radius,
        scale=options.scale,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        held_out=options.held_out,
    )


def train(options: argparse.Namespace, k: int, steps: int, seed: int) -> nn.Module:
    """A student after so many steps with k shifts each."""
    full = len(grid_shifts(options.radius))
    module = SRTDistillation(
        options.backbone,
        weights=options.weights,
        shift_radius=options.radius,
        margin=options.radius,
        shifts_per_step=None if k == full else k,
        views_per_batch="auto",
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0),
        seed=seed,
    )
    data = make_data(options)
    data.seed = seed
    trainer = pl.Trainer(
        accelerator="cpu" if options.device == "cpu" else "auto",
        devices=1,
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module.student


def score(options: argparse.Namespace, name: str, student: nn.Module, device: torch.device) -> dict[str, float]:
    """DAVIS scores of a student's single pass; its masks go to the scratch folder."""
    info = describe_backbone(student)
    result = evaluate_davis(
        FeatureExtractor(student.to(device)),
        options.data,
        options.scratch / name,
        mean=(info.mean[0], info.mean[1], info.mean[2]),
        std=(info.std[0], info.std[1], info.std[2]),
        fingerprint={"weights": hash_weights(student)},
        sequences=options.sequences,
        scale=options.scale,
        size_multiple=32,
        device=device,
        progress=False,
    )
    return {name: result.scores[name] for name in ("J&F-Mean", "J-Mean", "F-Mean")}


def plan(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, the untouched teacher first: mode, k, steps and seed."""
    budget = (options.compute_of + STUDENT_PASSES) * options.steps
    runs: list[dict[str, Any]] = [{"mode": "teacher", "k": 0, "steps": 0, "seed": 0}]
    for seed in options.seeds:
        for mode in MODES:
            for k in options.num_shifts:
                steps = options.steps if mode == "steps" else round(budget / (k + STUDENT_PASSES))
                runs.append({"mode": mode, "k": k, "steps": steps, "seed": seed})
    return runs


def run_all(options: argparse.Namespace, save: Callable[[list[dict]], None], rows: list[dict]) -> None:
    """Train and score what is not among the rows yet, saving after each."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings = json.loads(json.dumps(settings))
    device = choose_device(options.device)
    teacher = load_backbone(options.backbone, weights=options.weights).requires_grad_(False).to(device)
    gap: HeldOutGap | None = None
    for run in plan(options):
        work = {key: run[key] for key in ("k", "steps", "seed")}
        same = [row for row in rows if row["settings"] == settings and all(row[k] == v for k, v in work.items())]
        if any(row["mode"] == run["mode"] for row in same):
            continue
        if same:  # the same run under the other heading
            rows.append({**same[0], "mode": run["mode"]})
            save(rows)
            continue
        gap = gap or HeldOutGap(teacher, make_data(options), options.radius, device)
        start = time.perf_counter()
        student = train(options, **work) if run["steps"] else teacher
        seconds = time.perf_counter() - start
        name = f"k{run['k']}-steps{run['steps']}-seed{run['seed']}"
        student = student.to(device)
        row = {"settings": settings, **run, "train_seconds": seconds, "gap_closed": gap(student)}
        row |= {"passes": run["steps"] * (run["k"] + STUDENT_PASSES), **score(options, name, student, device)}
        rows.append(row)
        save(rows)
        print({k: v for k, v in row.items() if k != "settings"}, flush=True)


def averaged(rows: list[dict], mode: str, k: int, key: str) -> float:
    """Mean over seeds of a column."""
    values = [row[key] for row in rows if (row["mode"], row["k"]) == (mode, k)]
    return sum(values) / len(values)


def verdict(rows: list[dict]) -> str:
    """Whether the bar is met, in words; nothing before the full grid's row is there."""
    found = sorted({row["k"] for row in rows if row["mode"] == "steps"})
    full = len(grid_shifts(rows[0]["settings"]["radius"]))
    if full not in found:
        return ""
    whole = averaged(rows, "steps", full, "gap_closed")
    reached = {k: averaged(rows, "steps", k, "gap_closed") / whole for k in found if k <= 7}
    cost = {k: (k + STUDENT_PASSES) / (full + STUDENT_PASSES) for k in reached}
    said = ", ".join(f"{k} shifts {share:.1%} at {cost[k]:.3f} of the FLOPs" for k, share in reached.items())
    good = [k for k, share in reached.items() if share >= ENOUGH and cost[k] <= SMALL_COST]
    met = f"met by k = {', '.join(map(str, good))}" if good else "not met"
    return (
        f"Of the gap that {full} shifts close in as many steps: {said}. The bar (some k of at most 7 reaches "
        f"{ENOUGH:.0%} at 1/7 of the FLOPs) is {met}."
    )


def render(rows: list[dict]) -> str:
    """The table and the verdict."""
    lines = ["# Gain against teacher passes", ""]
    lines += [
        "| | shifts a step | steps | passes | gap closed | J&F | J | F | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, name in {"teacher": "untouched", **MODES}.items():
        for k in sorted({row["k"] for row in rows if row["mode"] == mode}):
            of = [row for row in rows if (row["mode"], row["k"]) == (mode, k)]
            scores = [averaged(rows, mode, k, key) for key in ("gap_closed", "J&F-Mean", "J-Mean", "F-Mean")]
            cells = [name, k or "", of[0]["steps"], f"{of[0]['passes']:,}", *(f"{v:.3f}" for v in scores), len(of)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    settings = "; ".join(f"{name} {value}" for name, value in rows[0]["settings"].items())
    return "\n".join([*lines, "", verdict(rows), "", f"Settings: {settings}.", ""]) + (
        "A pass is one forward of the backbone for each crop of a batch; a step takes k of the teacher and 3 for the "
        "student.\n\n![gain](gain.png)\n\n`python recipes/gain_against_passes.py` makes this page.\n"
    )


def draw(rows: list[dict], path: Path) -> None:
    """Gap closed and J&F against shifts a step, one line a mode."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, key, label in zip(axes, ("gap_closed", "J&F-Mean"), ("gap closed", "J&F, one pass"), strict=True):
        for mode, name in MODES.items():
            found = sorted({row["k"] for row in rows if row["mode"] == mode})
            axis.plot(found, [averaged(rows, mode, k, key) for k in found], marker="o", label=name)
        untouched = [row[key] for row in rows if row["mode"] == "teacher"]
        axis.axhline(untouched[0], color="grey", linestyle=":", label="untouched")
        found = sorted({row["k"] for row in rows if row["mode"] != "teacher"})
        axis.set_xscale("log")
        axis.set_xticks(found, [str(k) for k in found])
        axis.minorticks_off()
        axis.set_xlabel("shifts a step")
        axis.set_ylabel(label)
    axes[0].legend(frameon=False)
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run what is missing; write rows, table and figure after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/DAVIS"), help="DAVIS folder")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224", help="timm name, local-dir: or hf-hub:")
    parser.add_argument("--weights", help="weights file of a timm name")
    parser.add_argument("--num_shifts", type=int, nargs="+", default=(1, 2, 4, 9, 25, 49), help="the k")
    parser.add_argument("--steps", type=int, default=150, help="steps under equal steps")
    parser.add_argument("--compute_of", type=int, default=9, help="k whose compute is everybody's under equal compute")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--radius", type=int, default=3, help="d, in pixels")
    parser.add_argument("--crop", type=int, nargs=2, default=(112, 192), help="pixels, multiples of the patch")
    parser.add_argument("--scale", type=float, default=0.5, help="factor on the frames' size, here and on DAVIS val")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--held_out", type=int, default=32, help="frames that measure gap_closed")
    parser.add_argument("--sequences", nargs="+", help="of DAVIS val; all by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=Path("runs/gain_against_passes"), help="folder for masks")
    parser.add_argument("--output", type=Path, default=Path("recipes/results/gain_against_passes"))
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")

    file = options.output / "results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def save(rows: list[dict]) -> None:
        write_file(file, "".join(json.dumps(row) + "\n" for row in rows))
        ours = json.loads(json.dumps({name: getattr(options, name) for name in SETTINGS}))
        shown = [row for row in rows if row["settings"] == ours]
        draw(shown, options.output / "gain.png")
        write_file(options.output / "README.md", render(shown))

    run_all(options, save, rows)
    print(verdict(rows))


if __name__ == "__main__":
    main()
