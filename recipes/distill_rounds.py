"""Claim: further rounds, each with the student before as frozen teacher, are judged by curves, not by hope.

`srt-distill fit --rounds N` on a configuration under several seeds, without labels; every round's student is scored on
val in one pass beside teacher and SRT. The label-free signals are those that the run logs on held-out frames: the gap
closed towards this round's target and towards the first one's, the shift-equivariance error, how far weights moved
from w0, the effective rank of the features. For harm, what the classifier that came with the weights says about
photographs: agreement with the original's top-1, and top-1 where the file name starts with a WordNet id. Arguments that
this recipe does not know go to `fit`.

Run:       python recipes/distill_rounds.py [--rounds 2] [--smoothed bilinear] [--model.shift_radius 5 …]
Hardware:  a CPU will do for DeiT-Tiny: about 10 minutes a round on one core under the configuration that it takes by
           default; a killed run goes on where it was
Expected:  equivariance error falls and weights move away with every round, and agreement of the head falls. At 480
           pixels (--scale 1) J&F rises with every round on the plain target (--model.interpolation nearest). Writes
           results.jsonl, README.md and figure.png to recipes/results/distill_rounds, the runs themselves to --runs.
"""

import argparse
import logging
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from davis_rows import (
    COLORS,
    SHARED,
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

from srt_distill.backbone import describe_backbone, load_backbone
from srt_distill.commands import fit
from srt_distill.comparison.baseline_candidates import make_baseline
from srt_distill.comparison.candidates import Features, make_method, name_ensemble
from srt_distill.comparison.rows import percent, signed
from srt_distill.ensemble.baselines import Interpolation
from srt_distill.runs import STUDENT_FOLDER, load_run, round_folder, save_student
from srt_distill.tasks.davis.result_files import DavisResult

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "distill" / "deit_tiny_davis_cpu.yaml"

SINGLE_PASS = Features(-1, True, 0, "edge")
SIGNALS = {
    "gap closed": "val/gap_closed",
    "of the first target": "val/gap_closed_origin",
    "equivariance error": "val/equivariance_error_student",
    "weight drift": "val/weight_drift",
    "effective rank": "val/effective_rank_student",
}
"""What a run logs on held-out frames, by the heading of its column."""

SCORES = {"J&F": "J&F-Mean", "J": "J-Mean", "F": "F-Mean"}
"""What is scored on val, by the heading of its column."""

Student = tuple[DavisResult, dict[str, float | None]]
"""Scores on val, and label-free signals with the harm to the head."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score what is missing; write the table and the figure."""
    parser = make_parser(__doc__, "distill_rounds")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of `srt-distill fit`; says what is trained on")
    parser.add_argument("--photos", type=Path, default=SHARED / "images", help="photographs for the head, if any")
    parser.add_argument("--runs", type=Path, default=Path("runs/distill_rounds"), help="folder of the runs")
    parser.add_argument("--rounds", type=int, default=2, choices=range(1, 10), metavar="ROUNDS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shift_radius", type=int, default=3, help="of the SRT row")
    parser.add_argument("--shift_subset", default="grid9", help="shifts of the SRT row: grid9, checkerboard, full, …")
    parser.add_argument("--smoothed", choices=get_args(Interpolation), help="a second row each, features interpolated")
    options, fit_arguments = parser.parse_known_args(arguments)
    for noisy in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")

    teacher = load_backbone(options.backbone, weights=weights_file(options))
    rows = open_rows(options, teacher)
    has_photos = describe_backbone(teacher).has_head and options.photos.is_dir()
    photos = Photos(options.photos, teacher) if has_photos else None
    subset = options.shift_subset
    srt = Features(-1, True, options.shift_radius, "edge", subset)
    fixed = {
        name: rows.score(make_method(name, teacher, features, views_per_batch="auto", device=rows.device))
        for name, features in (("teacher", SINGLE_PASS), (name_ensemble(options.shift_radius, subset), srt))
    }
    way: Interpolation | None = options.smoothed

    def smooth(name: str, model: nn.Module, way: Interpolation) -> DavisResult:
        method = make_baseline(way, model, SINGLE_PASS, mean=rows.mean, std=rows.std, device=rows.device)
        return rows.score(replace(method, name=f"{name}, {method.name}"))

    if way is not None:
        fixed[f"teacher, {way} features"] = smooth("teacher", teacher, way)
    students: dict[int, list[Student]] = {}
    smoothed: dict[int, list[DavisResult]] = {}
    for seed in options.seeds:
        folder = options.runs / f"seed-{seed}"
        train(options, folder, seed, fit_arguments)
        for number in range(1, options.rounds + 1):
            run = load_run(find_round(options, folder, number))
            signals = {heading: read_signal(run.scores, key) for heading, key in SIGNALS.items()}
            if photos is not None:
                signals |= photos.harm(run.student)
            name = f"round {number}, seed {seed}"
            method = make_method(name, run.student, SINGLE_PASS, views_per_batch=1, device=rows.device)
            students.setdefault(number, []).append((rows.score(method), signals))
            if way is not None:
                smoothed.setdefault(number, []).append(smooth(name, run.student, way))

    changes = f" with {' '.join(fit_arguments)}" if fit_arguments else ""
    settings = (
        f"{describe_settings(options, rows)}. Rounds of {options.config.name}{changes}; mean ± standard deviation over "
        f"{len(options.seeds)} seeds. Agreement and top1: the head that came with the weights, on "
        f"{0 if photos is None else len(photos.labels)} photographs."
    )
    original = {} if photos is None else {"teacher": photos.harm(teacher)}
    table = render(fixed, students, smoothed, original, way)
    page = f"# Round after round\n\n{settings}\n\n{table}\n![gains](figure.png)\n"
    write_page(options.output, page, draw(fixed, students))


def train(options: argparse.Namespace, folder: Path, seed: int, fit_arguments: Sequence[str]) -> None:
    """`srt-distill fit`, unless its last round is there; goes on with a run that was killed."""
    last = find_round(options, folder, options.rounds)
    if (last / STUDENT_FOLDER).is_dir():
        return
    words = {
        "config": options.config,
        "model.backbone": options.backbone,
        "model.weights": weights_file(options) or "null",
        "model.seed": seed,
        "data.seed": seed,
        "trainer.default_root_dir": folder,
        "trainer.enable_progress_bar": "false",
        "seed_everything": seed,
        "rounds": options.rounds,
    }
    if folder.exists():
        words["ckpt_path"] = "last"
    fit.run([*(word for key, value in words.items() for word in (f"--{key}", str(value))), *fit_arguments])
    if options.rounds == 1:
        save_student(last)


def find_round(options: argparse.Namespace, folder: Path, number: int) -> Path:
    """The folder of a round; a single round has none of its own."""
    return folder if options.rounds == 1 else round_folder(folder, number)


def read_signal(scores: dict[str, float], key: str) -> float | None:
    """What a run logged, of the layer that is scored where it distilled several."""
    return scores.get(f"{key}_layer_-1", scores.get(key))


def render(
    fixed: dict[str, DavisResult],
    students: dict[int, list[Student]],
    smoothed: dict[int, list[DavisResult]],
    original: dict[str, dict[str, float | None]],
    way: Interpolation | None,
) -> str:
    """The table: teacher and SRT, then every round; smoothed ones last."""
    single, srt, *_ = fixed.values()
    harms = ["agreement", "top1"] if original else []
    header = ["features", *SCORES, "gain", "of SRT's", *SIGNALS, *harms]
    table: list[list[str]] = []

    def add(name: str, results: Sequence[DavisResult], others: Sequence[str]) -> None:
        whole, gain = (
            statistics.fmean(result.scores["J&F-Mean"] for result in compared) - single.scores["J&F-Mean"]
            for compared in ([srt], results)
        )
        gains = ["", ""] if results == [single] else [signed(gain), percent(gain / whole) if whole > 0 else ""]
        table.append([name, *(spread(r.scores[score] for r in results) for score in SCORES.values()), *gains, *others])

    for name, result in fixed.items():
        harm = [spread([original.get(name, {}).get(key)]) for key in harms]
        add(name, [result], [*[""] * len(SIGNALS), *harm])
    for number, seeds in students.items():
        others = [spread(signals.get(key) for _, signals in seeds) for key in (*SIGNALS, *harms)]
        add(f"round {number}", [result for result, _ in seeds], others)
    for number, results in smoothed.items():
        add(f"round {number}, {way} features", results, [""] * (len(SIGNALS) + len(harms)))
    return markdown_table(header, table)


def draw(fixed: dict[str, DavisResult], students: dict[int, list[Student]]) -> Figure:
    """Gain in J&F, J and F by round: a dot a seed, a line through the means; SRT as a dotted line."""
    figure, axes = make_axes()
    single, srt, *_ = fixed.values()
    for score, color in zip(("J&F-Mean", "J-Mean", "F-Mean"), COLORS[1:], strict=False):
        gains = [[r.scores[score] - single.scores[score] for r, _ in seeds] for seeds in students.values()]
        axes.plot(list(students), [statistics.fmean(g) for g in gains], color=color, label=score[:-5])
        for number, values in zip(students, gains, strict=True):
            axes.plot([number] * len(values), values, "o", color=color, markersize=4, alpha=0.6)
        axes.axhline(srt.scores[score] - single.scores[score], color=color, linestyle=":", linewidth=1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(list(students))
    axes.set_xlabel("round (dots: seeds; dotted: SRT)")
    axes.set_ylabel("gained over the teacher's single pass")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
