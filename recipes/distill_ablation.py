"""Claim: which choices of the distillation matter, one changed at a time, and what each does to the untouched head.

Around a default (squared error, all weights, 4 sampled shifts a step, crops with a margin of real pixels) one choice is
changed at a time: loss, trainable part, target, border, learning rate. Losses other than the squared error cannot take
sampled shifts, so they are compared among each other under a fixed target of 9 shifts (grid9). Every row is trained
under several seeds on DAVIS train, without labels, and scored on val: J&F of one pass, the feature gap closed on
held-out frames, and, for harm, what the classifier that came with the weights says about photographs: agreement with
the original's top-1, and top-1 itself where the file name starts with a WordNet id (n01440764_tench.JPEG).

Run:       python recipes/distill_ablation.py [--steps 150] [--seeds 0 1 2] [--only loss target]
Hardware:  a CPU will do for DeiT-Tiny; the table states the minutes that each row took to train
Expected:  the paper has no such table. What to look for: gains beyond their spread over seeds, and what smaller
           learning rates and fewer trained weights save of the head. Writes results.jsonl, README.md and figure.png to
           recipes/results/distill_ablation and skips finished rows.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from davis_rows import (
    COLORS,
    SHARED,
    DavisRows,
    describe_settings,
    make_axes,
    make_parser,
    markdown_table,
    open_rows,
    spread,
    weights_file,
    write_page,
)
from head_photos import Photos
from matplotlib.figure import Figure
from torch import nn

from srt_distill.backbone import describe_backbone, hash_weights, load_backbone
from srt_distill.commands.single_layer import Features, make_method, name_ensemble
from srt_distill.data import DavisFrames, UnlabeledImages
from srt_distill.distillation import SRTDistillation
from srt_distill.evaluation.davis_results import DavisResult
from srt_distill.evaluation.methods import plain, signed

DEFAULT: dict[str, Any] = {
    "loss": "mse",
    "trainable": "all",
    "shifts_per_step": 4,
    "shift_subset": "full",
    "border": "edge",
    "margin": 3,
    "lr": 1e-4,
}
FIXED = {"shifts_per_step": None, "shift_subset": "grid9"}
NO_PHOTOS: dict[str, float | None] = {"agreement": None, "top1": None}
FACTORS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"mse, all weights, 4 sampled shifts, margin 3, lr 1e-4": {}},
    "loss": {f"{loss}, fixed grid9": {"loss": loss, **FIXED} for loss in ("mse", "l2", "l1", "smooth_l1", "cosine")},
    "trainable": {part: {"trainable": part} for part in ("last_n", "norm", "bias")},
    "target": {f"{k} sampled shifts": {"shifts_per_step": k} for k in (1, 9)},
    "border": {
        "no margin, edges repeated": {"margin": 0},
        "no margin, zeros": {"margin": 0, "border": "zeros"},
    },
    "learning rate": {f"lr {lr:g}": {"lr": lr} for lr in (3e-5, 3e-4)},
}


def distil(options: argparse.Namespace, choice: dict[str, Any], seed: int) -> tuple[nn.Module, float]:
    """Train one student; returns it with the feature gap closed on held-out frames."""
    pl.seed_everything(seed, verbose=False)
    data = UnlabeledImages(
        DavisFrames(options.data, split=options.train_split),
        crop_size=tuple(options.crop),
        margin=choice["margin"],
        scale=options.scale,
        batch_size=options.batch,
        num_workers=0,
        held_out=options.held_out,
        patch=options.patch,
        seed=seed,
    )
    module = SRTDistillation(
        options.backbone,
        weights=weights_file(options),
        shift_radius=options.shift_radius,
        views_per_batch="auto",
        optimizer=partial(torch.optim.AdamW, lr=choice["lr"], weight_decay=0.0),
        seed=seed,
        **{key: value for key, value in choice.items() if key != "lr"},
    )
    trainer = pl.Trainer(
        max_steps=options.steps,
        val_check_interval=options.steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accelerator="cpu" if options.device == "cpu" else "auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return module.student.eval(), trainer.callback_metrics["val/gap_closed"].item()


def run_row(
    options: argparse.Namespace, rows: DavisRows, photos: Photos | None, choice: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Train and judge one student; plain data."""
    start = time.perf_counter()
    student, gap_closed = distil(options, choice, seed)
    seconds = time.perf_counter() - start
    harm = NO_PHOTOS if photos is None else photos.harm(student.cpu())
    method = make_method("student", student, Features(-1, True, 0, "edge"), views_per_batch=1, device=rows.device)
    scores = rows.score_anew(method).scores
    return {"scores": scores, "gap_closed": gap_closed, **harm, "training_seconds": round(seconds, 1)}


def render(
    fixed: dict[str, tuple[DavisResult, float | None]], trained: dict[tuple[str, str], list[dict[str, Any]]]
) -> str:
    """The table: teacher and SRT first, then every choice, by factor."""
    header = ["factor", "choice", "J&F", "gain", "J", "F", "gap closed", "agreement", "top-1", "minutes"]
    single = next(iter(fixed.values()))[0]
    rows = []
    for name, (result, accuracy) in fixed.items():
        scores = [plain(result.scores[score]) for score in ("J&F-Mean", "J-Mean", "F-Mean")]
        gain = signed(result.scores["J&F-Mean"] - single.scores["J&F-Mean"]) if result is not single else ""
        rows.append(["", name, scores[0], gain, *scores[1:], "", "", "" if accuracy is None else plain(accuracy), ""])
    for (factor, choice), seeds in trained.items():
        j_and_f, j, f = (spread(seed["scores"][score] for seed in seeds) for score in ("J&F-Mean", "J-Mean", "F-Mean"))
        gain = statistics.fmean(seed["scores"]["J&F-Mean"] for seed in seeds) - single.scores["J&F-Mean"]
        minutes = f"{statistics.fmean(seed['training_seconds'] for seed in seeds) / 60:.1f}"
        others = [spread(seed[key] for seed in seeds) for key in ("gap_closed", "agreement", "top1")]
        rows.append([factor, choice, j_and_f, signed(gain), j, f, *others, minutes])
    return markdown_table(header, rows)


def draw(single: DavisResult, trained: dict[tuple[str, str], list[dict[str, Any]]]) -> Figure:
    """J&F gained by each choice, a dot a seed and a line at the mean, coloured by factor."""
    figure, axes = make_axes(6.8, 0.9 + 0.28 * len(trained))
    factors = list(dict.fromkeys(factor for factor, _ in trained))
    for place, ((factor, _), seeds) in enumerate(trained.items()):
        gains = [seed["scores"]["J&F-Mean"] - single.scores["J&F-Mean"] for seed in seeds]
        color = COLORS[factors.index(factor) % len(COLORS)]
        axes.plot(gains, [place] * len(gains), "o", color=color, markersize=4, alpha=0.6)
        axes.plot(statistics.fmean(gains), place, "|", color=color, markersize=14, markeredgewidth=2.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(trained)), [choice if factor != "default" else "default" for factor, choice in trained])
    axes.invert_yaxis()
    axes.set_xlabel("J&F gained over the teacher's single pass (dots: seeds, bar: mean)")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score what is missing; write the table and the figure."""
    parser = make_parser(__doc__, "distill_ablation")
    parser.add_argument("--train_split", default="train", help="unlabeled target domain")
    parser.add_argument(
        "--photos", type=Path, default=SHARED / "images", help="photographs for the head, if they exist"
    )
    parser.add_argument("--only", nargs="+", choices=list(FACTORS), help="factors to run; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, nargs=2, default=[112, 192], help="height and width in pixels")
    parser.add_argument("--held_out", type=int, default=8, help="frames kept for the feature gap")
    parser.add_argument("--shift_radius", type=int, default=3)
    options = parser.parse_args(arguments)
    for noisy in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")

    teacher = load_backbone(options.backbone, weights=weights_file(options))
    info = describe_backbone(teacher)
    options.patch = info.patch_size
    rows = open_rows(options, teacher)
    photos = Photos(options.photos, teacher) if info.has_head and options.photos.is_dir() else None
    original = None if photos is None else photos.harm(teacher)["top1"]
    fixed = {}
    for name, radius in (("teacher", 0), (name_ensemble(options.shift_radius, "grid9"), options.shift_radius)):
        features = Features(-1, True, radius, "edge", "grid9" if radius else "full")
        method = make_method(name, teacher, features, views_per_batch="auto", device=rows.device)
        fixed[name] = rows.score(method), None if radius else original

    shared = {
        key: getattr(options, key) for key in ("train_split", "steps", "batch", "crop", "held_out", "shift_radius")
    }
    shared |= {"teacher": hash_weights(teacher), "videos": [video.digest() for video in rows.videos], **rows.protocol}
    shared["photos"] = None if photos is None else len(photos.labels)
    trained: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for factor in options.only or FACTORS:
        for name, change in FACTORS[factor].items():
            choice = {**DEFAULT, **change}
            for seed in options.seeds:
                caption = {"factor": factor, "choice": name, "seed": seed}
                compute = partial(run_row, options, rows, photos, choice, seed)
                result = rows.rows.get({**shared, **choice, "seed": seed}, caption, compute)
                trained.setdefault((factor, name), []).append(result)

    settings = (
        f"{describe_settings(options, rows)}. {options.steps} steps of batch {options.batch} on split "
        f"{options.train_split}, crops {options.crop[0]}x{options.crop[1]}, radius {options.shift_radius}; mean ± "
        f"standard deviation over {len(options.seeds)} seeds. Agreement and top-1: the head that came with the "
        f"weights, on {0 if photos is None else len(photos.labels)} photographs."
    )
    page = f"# What matters in the distillation\n\n{settings}\n\n{render(fixed, trained)}\n![gains](figure.png)\n"
    write_page(options.output, page, draw(fixed["teacher"][0], trained))


if __name__ == "__main__":
    main()
