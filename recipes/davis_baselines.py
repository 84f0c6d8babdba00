"""Claim: of the paper (Tables 1, 8), that SRT beats one pass on DAVIS; jitter, overlap and interpolation do not.

Scores, on any weights and videos: the single pass, SRT, the paper's baselines under as many passes, and, where one is
given, a distilled student. One row of results.jsonl a method and sequence; finished ones are skipped. The paper does
not say on which grid it scored overlapping tokens, so there are two rows: on their own, and averaged back onto the
usual one.

Run:       python recipes/davis_baselines.py [--student runs/mine] [--shift_subset grid9] [--num_frames 20]
           DINO ViT-S/16 at full size, as in the paper: --backbone vit_small_patch16_224.dino --weights none
           --data path/to/DAVIS --scale 1 --size_multiple 64
Hardware:  a CPU will do for DeiT-Tiny at half size; the table states seconds a frame
Expected:  the paper's DINO ViT-S/16, F&J: single pass .617, SRT .642, overlapping tokens .591, naive ensemble .477,
           distilled .625. Writes results.jsonl, README.md and figure.png to recipes/results/davis_baselines.
"""

from collections.abc import Sequence
from typing import get_args

from davis_rows import (
    COLORS,
    TABLE_1,
    count_better,
    describe_settings,
    make_axes,
    make_parser,
    markdown_table,
    open_rows,
    weights_file,
    write_page,
)
from matplotlib.figure import Figure

from srt_distill.backbone import BackboneOptions
from srt_distill.comparison.baseline_candidates import Baseline, make_baseline
from srt_distill.comparison.candidates import Features, make_method, name_ensemble
from srt_distill.comparison.rows import Method, plain, signed
from srt_distill.ensemble.shifts import Subset
from srt_distill.runs import open_backbone
from srt_distill.tasks.davis.result_files import DavisResult

SCORE = "J&F-Mean"
NOTE = """Overlapping tokens are scored on a grid of their own, where masks are finer whatever the features are; the
pooled row is on the grid of all others. Each view of the output ensemble starts from a first mask moved by whole
pixels, so that together they know more of that mask than one map of tokens does; SRT starts from a single one.
Seconds are of feature extraction, beside whatever else the machine did in that row: compare by passes.
"""


def render(results: dict[str, tuple[Method, DavisResult]]) -> str:
    """The table: scores, gain over the single pass (the first row), and cost."""
    (_, single), *_ = results.values()
    header = ["features", *TABLE_1, "gain", "better on", "passes", "s / frame"]
    rows = []
    for name, (method, result) in results.items():
        gain = "" if result is single else signed(result.scores[SCORE] - single.scores[SCORE])
        better = "" if result is single else count_better(result, single)
        cost = [str(method.passes), f"{result.seconds_per_frame:.3f}"]
        rows.append([name, *(plain(result.scores[score]) for score in TABLE_1), gain, better, *cost])
    return markdown_table(header, rows)


def draw(results: dict[str, tuple[Method, DavisResult]]) -> Figure:
    """What each row gains in J&F over the single pass: the mean as a bar, sequences as dots."""
    (_, single), *others = ((method, result) for method, result in results.values())
    figure, axes = make_axes(6.4, 0.8 + 0.42 * len(others))
    base = [sequence.scores[SCORE] for sequence in single.sequences]
    for place, (method, result) in enumerate(others):
        gain = result.scores[SCORE] - single.scores[SCORE]
        each = [sequence.scores[SCORE] - score for sequence, score in zip(result.sequences, base, strict=True)]
        axes.barh(place, gain, color=COLORS[3] if gain > 0 else COLORS[5], height=0.6, alpha=0.8)
        axes.plot(each, [place] * len(each), "o", color="black", markersize=3.5, alpha=0.55)
        axes.text(1.01, place, method.name, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("J&F gained over the single pass (dots: sequences)")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing; write the table and the figure."""
    parser = make_parser(__doc__, "davis_baselines")
    parser.add_argument("--layer", type=int, default=-1, help="block whose features are scored")
    parser.add_argument("--shift_radius", type=int, default=3)
    parser.add_argument("--shift_subset", choices=get_args(Subset), default="full", help="part of the grid of shifts")
    parser.add_argument("--baselines", nargs="*", choices=get_args(Baseline), default=list(get_args(Baseline)))
    parser.add_argument("--student", help="a distilled run or export, for one more row")
    options = parser.parse_args(arguments)

    model = open_backbone(BackboneOptions(options.backbone, weights_file(options)))
    rows = open_rows(options, model)
    single = Features(options.layer, True, 0, "edge")
    features = Features(options.layer, True, options.shift_radius, "edge", options.shift_subset)
    ensemble = name_ensemble(options.shift_radius, options.shift_subset)
    methods = [
        make_method("single pass", model, single, views_per_batch=1, device=rows.device),
        make_method(ensemble, model, features, views_per_batch="auto", device=rows.device),
    ]
    for baseline in options.baselines:
        methods.append(make_baseline(baseline, model, features, mean=rows.mean, std=rows.std, device=rows.device))
    if options.student is not None:
        student = open_backbone(BackboneOptions(options.student))
        methods.append(make_method("distilled", student, single, views_per_batch=1, device=rows.device))

    results = {method.name: (method, rows.score(method)) for method in methods}
    page = f"{describe_settings(options, rows)}.\n\n{render(results)}\n{NOTE}\n![gains](figure.png)\n"
    write_page(options.output, "# SRT and its baselines on DAVIS label propagation\n\n" + page, draw(results))


if __name__ == "__main__":
    main()
