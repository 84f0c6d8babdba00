"""Claim: which choices of the distillation matter, one changed at a time, and what each does to the untouched head.

Around a default (squared error on the last block, all weights, 4 sampled shifts a step, crops with a margin of real
pixels) one choice is changed at a time: loss, target, trainable part, crops, length of training, what may save the
head; and what promises most is tried together. Losses other than the squared error cannot take sampled shifts, so they
are compared among each other under a fixed target of 9 shifts (grid9). Every row is trained under several seeds on
DAVIS train, without labels, and scored on val: J&F of one pass, the feature gap closed on held-out crops, and, for
harm, what the classifier that came with the weights says about photographs: agreement with the original's top-1, and
top-1 itself where the file name starts with a WordNet id (n01440764_tench.JPEG). Rows that train on photographs are
judged on the third of them that they left out.

Run:       python recipes/distill_ablation.py [--steps 300] [--seeds 0 1 2] [--only loss target]
Hardware:  a CPU will do for DeiT-Tiny, about two minutes a row and seed; the table states the minutes of training
Expected:  the paper has no such table. What to look for: gains beyond their spread over seeds, and what smaller
           learning rates and fewer trained weights save of the head. Writes results.jsonl, README.md and figure.png to
           recipes/results/distill_ablation and skips finished rows; the table shows all finished rows.
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

import torch
from ablation_choices import DEFAULT, FACTORS, Choice, distil
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

from srt_distill.backbone import describe_backbone, hash_weights, load_backbone
from srt_distill.comparison.candidates import Features, make_method, name_ensemble
from srt_distill.comparison.rows import plain, signed
from srt_distill.data import DavisFrames
from srt_distill.tasks.davis.result_files import DavisResult

Trained = dict[tuple[str, str], dict[int, dict[str, Any]]]
"""What `run_row` gave, by factor and choice, then by seed."""

MAX_SEED = 10  # seeds are below it, so that finished rows of any seed are found


def run_row(
    options: argparse.Namespace, rows: DavisRows, photos: Photos | None, patch: int, choice: Choice, seed: int
) -> dict[str, Any]:
    """Train and judge one student; plain data."""
    start = time.perf_counter()
    student, measured = distil(
        choice,
        seed,
        backbone=options.backbone,
        weights=weights_file(options),
        layer=options.layer,
        patch=patch,
        frames=DavisFrames(options.data, split=options.train_split),
        photos=[] if photos is None else photos.files,
        crop=tuple(options.crop),
        scale=options.scale,
        batch=options.batch,
        steps=options.steps,
        held_out=options.held_out,
        accelerator="cpu" if options.device == "cpu" else "auto",
    )
    seconds = time.perf_counter() - start
    predicted = None if photos is None else photos.predict(student).tolist()
    method = make_method(
        "student", student, Features(options.layer, True, 0, "edge"), views_per_batch=1, device=rows.device
    )
    scores = rows.score_anew(method).scores
    return {"scores": scores, "held_out": measured, "predicted": predicted, "training_seconds": round(seconds, 1)}


def gap_closed(choice: Choice, result: dict[str, Any]) -> float | None:
    """The gap towards w0's SRT; None where the student that was measured is not the one that is scored."""
    held_out = result["held_out"]
    return held_out.get("val/gap_closed_origin", held_out["val/gap_closed"]) if choice.share == 1 else None


def render(
    fixed: dict[str, tuple[DavisResult, float | None]], trained: Trained, photos: Photos | None
) -> tuple[str, str]:
    """The table, teacher and SRT first, then every choice by factor; and what is to be said beneath it."""
    header = ["factor", "choice", "J&F", "gain", "J", "F", "gap closed", "agreement", "top-1", "seeds", "min"]
    single = next(iter(fixed.values()))[0]
    rows, note = [], ""
    for name, (result, accuracy) in fixed.items():
        scores = [plain(result.scores[score]) for score in ("J&F-Mean", "J-Mean", "F-Mean")]
        gain = signed(result.scores["J&F-Mean"] - single.scores["J&F-Mean"]) if result is not single else ""
        rows.append(
            ["", name, scores[0], gain, *scores[1:], "", "", "" if accuracy is None else plain(accuracy), "", ""]
        )
    for (factor, name), by_seed in trained.items():
        choice, seeds = FACTORS[factor][name], by_seed.values()
        j_and_f, j, f = (spread(seed["scores"][score] for seed in seeds) for score in ("J&F-Mean", "J-Mean", "F-Mean"))
        gain = statistics.fmean(seed["scores"]["J&F-Mean"] for seed in seeds) - single.scores["J&F-Mean"]
        minutes = f"{statistics.fmean(seed['training_seconds'] for seed in seeds) / 60:.1f}"
        others = [spread(gap_closed(choice, seed) for seed in seeds), *judge_head(photos, choice, by_seed)]
        rows.append([factor, name, j_and_f, signed(gain), j, f, *others, str(len(seeds)), minutes])
    default = trained.get(("default", next(iter(FACTORS["default"]))))
    if default is not None and photos is not None:
        agreement, top1 = judge_head(photos, Choice(photos=True), default)
        note = (
            "Rows that train on photographs are judged on those left out; there the default has agreement "
            f"{agreement} and top-1 {top1}.\n"
        )
    return markdown_table(header, rows), note


def judge_head(photos: Photos | None, choice: Choice, by_seed: dict[int, dict[str, Any]]) -> list[str]:
    """Agreement and top-1 over seeds, on the photographs that a choice leaves out of training."""
    if photos is None:
        return [spread([]), spread([])]
    harms = [
        photos.rate(torch.tensor(result["predicted"]), choice.unseen(len(photos.files), seed))
        for seed, result in by_seed.items()
    ]
    return [spread(harm[key] for harm in harms) for key in ("agreement", "top1")]


def draw(single: DavisResult, trained: Trained) -> Figure:
    """J&F gained by each choice, a dot a seed and a line at the mean, coloured by factor."""
    figure, axes = make_axes(6.8, 0.9 + 0.24 * len(trained))
    factors = list(dict.fromkeys(factor for factor, _ in trained))
    for place, ((factor, _), by_seed) in enumerate(trained.items()):
        gains = [seed["scores"]["J&F-Mean"] - single.scores["J&F-Mean"] for seed in by_seed.values()]
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
    parser.add_argument("--only", nargs="+", choices=list(FACTORS), help="factors to train; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], choices=range(MAX_SEED), metavar="SEED")
    parser.add_argument("--layer", type=int, default=-1, help="block that is distilled and scored")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, nargs=2, default=[112, 192], help="height and width in pixels")
    parser.add_argument("--held_out", type=int, default=16, help="crops kept for the feature gap")
    options = parser.parse_args(arguments)
    for noisy in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")

    teacher = load_backbone(options.backbone, weights=weights_file(options))
    info = describe_backbone(teacher)
    rows = open_rows(options, teacher)
    photos = Photos(options.photos, teacher) if info.has_head and options.photos.is_dir() else None
    original = None if photos is None else photos.rate(photos.original)["top1"]
    fixed = {}
    for name, radius in (("teacher", 0), (name_ensemble(DEFAULT.shift_radius, "grid9"), DEFAULT.shift_radius)):
        features = Features(options.layer, True, radius, "edge", "grid9" if radius else "full")
        method = make_method(name, teacher, features, views_per_batch="auto", device=rows.device)
        fixed[name] = rows.score(method), None if radius else original

    shared = {key: getattr(options, key) for key in ("train_split", "layer", "steps", "batch", "crop", "held_out")}
    shared |= {"teacher": hash_weights(teacher), "videos": [video.digest() for video in rows.videos], **rows.protocol}
    shared["photos"] = None if photos is None else [photo.name for photo in photos.files]
    for seed in options.seeds:
        for factor in options.only or FACTORS:
            for name, choice in FACTORS[factor].items():
                if choice.photos and photos is None:
                    continue
                caption = {"factor": factor, "choice": name, "seed": seed}
                compute = partial(run_row, options, rows, photos, info.patch_size, choice, seed)
                rows.rows.get({**shared, **choice.settings(), "seed": seed}, caption, compute)
    trained: Trained = {}
    for factor, choices in FACTORS.items():
        for name, choice in choices.items():
            found = {seed: rows.rows.find({**shared, **choice.settings(), "seed": seed}) for seed in range(MAX_SEED)}
            if finished := {seed: result for seed, result in found.items() if result is not None}:
                trained[factor, name] = finished

    height, width = options.crop
    settings = (
        f"{describe_settings(options, rows)}. Block {options.layer}, {options.steps} steps of batch {options.batch} on "
        f"split {options.train_split}, crops {height}x{width}, radius {DEFAULT.shift_radius}; mean ± standard "
        f"deviation over the seeds that the table counts. Agreement and top-1: the head that came with the weights, on "
        f"{0 if photos is None else len(photos.files)} photographs."
    )
    table, note = render(fixed, trained, photos)
    page = f"# What matters in the distillation\n\n{settings}\n\n{table}\n{note}\n![gains](figure.png)\n"
    write_page(options.output, page, draw(fixed["teacher"][0], trained))


if __name__ == "__main__":
    main()
