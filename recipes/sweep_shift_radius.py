"""Claim: SRT's gain first grows with the shift radius, then falls; 3 pixels are best at patch 16 (Fig. 3).

For each radius, the relative gain in J&F of SRT over the single pass. All (2d+1)² shifts of radius 1 to 7 are 679
passes a frame, so by default each radius takes 9 of its shifts, spread evenly by `lattice_shifts`: exact at radius 1,
an estimate of the full grid's features elsewhere. `--num_shifts all` takes every shift, as the paper does.

Run:       python recipes/sweep_shift_radius.py [--num_shifts all] [--num_frames 20] [--radii 1 2 3]
Hardware:  a CPU will do for DeiT-Tiny at half size: 64 passes a frame by default
Expected:  the paper's Fig. 3 (DINO ViT-S/16 and B/16, all shifts): a maximum at 3 pixels. Writes results.jsonl,
           README.md and figure.png to recipes/results/sweep_shift_radius and skips finished rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from davis_rows import (
    COLORS,
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

from srt_distill.backbone import BackboneOptions, FeatureExtractor
from srt_distill.comparison.candidates import Features, make_method
from srt_distill.comparison.rows import MINUS, Method, plain
from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import lattice_shifts
from srt_distill.runs import open_backbone
from srt_distill.tasks.davis.result_files import DavisResult

SCORES = ("J&F-Mean", "J-Mean", "F-Mean")


def sample_radius(method: Method, extract: FeatureExtractor, radius: int, num_shifts: int | None) -> Method:
    """SRT of a radius over some of its shifts.

    Args:
        method: The single pass.
        extract: Its extractor.
        radius: d, in pixels.
        num_shifts: How many shifts; None, or more than there are, for all.
    """
    srt = StochasticResonance(extract, radius, views_per_batch="auto")
    num_all = len(srt.shifts)
    shifts = srt.shifts if num_shifts is None else lattice_shifts(radius, min(num_shifts, num_all))
    fingerprint = {**method.fingerprint, "shift_radius": radius, "shifts": sorted(list(shift) for shift in shifts)}
    return replace(
        method,
        name=f"SRT d={radius}, {len(shifts)} of {num_all} shifts",
        extract=partial(srt, shifts=shifts),
        passes=len(shifts),
        fingerprint=fingerprint,
    )


def relative_gain(result: DavisResult, single: DavisResult, score: str) -> float:
    """Gain as a share of the single pass's score."""
    return result.scores[score] / single.scores[score] - 1


def render(single: DavisResult, swept: dict[int, tuple[Method, DavisResult]]) -> str:
    """The table: scores and relative gains by radius."""
    header = ["radius", "shifts", *SCORES, "relative gain in J&F", "better on"]
    rows = [["0", "1 of 1", *(plain(single.scores[score]) for score in SCORES), "", ""]]
    for radius, (method, result) in swept.items():
        scores = [plain(result.scores[score]) for score in SCORES]
        gain = f"{relative_gain(result, single, SCORES[0]):+.1%}".replace("-", MINUS)
        shifts = f"{method.passes} of {(2 * radius + 1) ** 2}"
        rows.append([str(radius), shifts, *scores, gain, count_better(result, single)])
    return markdown_table(header, rows)


def draw(single: DavisResult, swept: dict[int, tuple[Method, DavisResult]]) -> Figure:
    """Relative gains against the radius (the paper's Fig. 3)."""
    figure, axes = make_axes()
    radii = [0, *swept]
    for score, color in zip(SCORES, COLORS[1:], strict=False):
        gains = [0.0, *(100 * relative_gain(result, single, score) for _, result in swept.values())]
        axes.plot(radii, gains, "o-", color=color, label=score.replace("-Mean", ""))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(radii)
    axes.set_xlabel("shift radius in pixels")
    axes.set_ylabel("gain over the single pass, %")
    axes.legend(frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing; write the table and the figure."""
    parser = make_parser(__doc__, "sweep_shift_radius")
    parser.add_argument("--layer", type=int, default=-1, help="block whose features are scored")
    parser.add_argument("--radii", type=int, nargs="+", default=list(range(1, 8)))
    parser.add_argument("--num_shifts", default="9", help="shifts a radius, or 'all'")
    options = parser.parse_args(arguments)
    num_shifts = None if options.num_shifts == "all" else int(options.num_shifts)

    model = open_backbone(BackboneOptions(options.backbone, weights_file(options)))
    rows = open_rows(options, model)
    base = make_method(
        "single pass", model, Features(options.layer, True, 0, "edge"), views_per_batch=1, device=rows.device
    )
    extract = FeatureExtractor(model, (options.layer,))
    single = rows.score(base)
    methods = {radius: sample_radius(base, extract, radius, num_shifts) for radius in options.radii}
    swept = {radius: (method, rows.score(method)) for radius, method in methods.items()}
    kind = "all shifts" if num_shifts is None else f"{num_shifts} evenly spread shifts a radius, not the full grid"
    title = f"# SRT's gain against the shift radius\n\n{describe_settings(options, rows)}; {kind}.\n\n"
    write_page(options.output, title + render(single, swept) + "\n![gain](figure.png)\n", draw(single, swept))


if __name__ == "__main__":
    main()
