"""Claim: SRT and distillation help whichever block's features are used, and the last block is not always best.

J&F of each block's features (after the final norm), in one pass, under SRT and, where one is given, of a distilled
student in one pass. By default SRT takes 9 shifts (`--shift_subset grid9`); `full` takes all (2d+1)².

Run:       python recipes/sweep_layers.py [--student runs/mine] [--layers 3 7 11] [--num_frames 20]
Hardware:  a CPU will do for DeiT-Tiny at half size: 10 passes a frame and block, 120 in all, by default
Expected:  the paper gives no such table; it holds that SRT applies "at any layer". Writes results.jsonl, README.md and
           figure.png to recipes/results/sweep_layers and skips finished rows.
"""

from collections.abc import Sequence
from typing import get_args

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

from srt_distill.backbone import BackboneOptions, describe_backbone
from srt_distill.comparison.candidates import Features, make_method, name_ensemble
from srt_distill.comparison.rows import plain, signed
from srt_distill.ensemble.shifts import Subset
from srt_distill.runs import open_backbone
from srt_distill.tasks.davis.result_files import DavisResult

SCORE = "J&F-Mean"
SINGLE, STUDENT = "single pass", "distilled"

Results = dict[str, dict[int, DavisResult]]
"""By method, then by layer; the single pass first."""


def render(results: Results) -> str:
    """The table: J&F by layer and method, with the gain over the single pass of the same layer."""
    names = list(results)
    header = [
        "layer",
        *(cell for name in names for cell in ([name] if name == SINGLE else [name, "gain", "better on"])),
    ]
    rows = []
    for layer, single in results[SINGLE].items():
        cells = [str(layer), plain(single.scores[SCORE])]
        for name in names[1:]:
            result = results[name][layer]
            gain = signed(result.scores[SCORE] - single.scores[SCORE])
            cells += [plain(result.scores[SCORE]), gain, count_better(result, single)]
        rows.append(cells)
    return markdown_table(header, rows)


def draw(results: Results) -> Figure:
    """J&F against the layer, one line a method."""
    figure, axes = make_axes()
    for color, (name, by_layer) in zip(COLORS, results.items(), strict=False):
        axes.plot(list(by_layer), [result.scores[SCORE] for result in by_layer.values()], "o-", color=color, label=name)
    axes.set_xticks(list(results[SINGLE]))
    axes.set_xlabel("layer (0-based block)")
    axes.set_ylabel("J&F")
    axes.legend(frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing; write the table and the figure."""
    parser = make_parser(__doc__, "sweep_layers")
    parser.add_argument("--layers", type=int, nargs="+", help="blocks, 0-based; all by default")
    parser.add_argument("--shift_radius", type=int, default=3)
    parser.add_argument("--shift_subset", choices=get_args(Subset), default="grid9", help="part of the grid of shifts")
    parser.add_argument("--student", help="a distilled run or export, for one more line")
    options = parser.parse_args(arguments)

    model = open_backbone(BackboneOptions(options.backbone, weights_file(options)))
    rows = open_rows(options, model)
    ensemble = name_ensemble(options.shift_radius, options.shift_subset)
    compared = [(SINGLE, model, 0), (ensemble, model, options.shift_radius)]
    if options.student is not None:
        compared.append((STUDENT, open_backbone(BackboneOptions(options.student)), 0))
    results: Results = {name: {} for name, *_ in compared}
    for layer in options.layers or range(describe_backbone(model).num_layers):
        for name, backbone, radius in compared:
            features = Features(layer, True, radius, "edge", options.shift_subset if radius else "full")
            method = make_method(
                f"{name}, layer {layer}", backbone, features, views_per_batch="auto", device=rows.device
            )
            results[name][layer] = rows.score(method)
    title = f"# Which block's features\n\n{describe_settings(options, rows)}. J&F by layer.\n\n"
    write_page(options.output, title + render(results) + "\n![J&F by layer](figure.png)\n", draw(results))


if __name__ == "__main__":
    main()
