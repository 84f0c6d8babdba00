"""The tables of a comparison, and the whole of it as Markdown.

Shape legend: none.
"""

from srt_distill.comparison.intervals import CONFIDENCE
from srt_distill.comparison.rows import Comparison, Cost, Row, TaskResult, percent, plain, signed

NOTHING = "\N{EN DASH}"
MOST_LISTED = 60  # items in the table by item; of more there are the pictures and the JSON


def column_names(comparison: Comparison, result: TaskResult) -> list[str]:
    """Write captions after the candidate's name: the headline, what was gained, then the other scores."""
    first, *others = result.info.scores
    captions = [_caption(first.name, first.unit)]
    if len(result.rows) > 1:
        captions += [f"Δ {comparison.reference} [{CONFIDENCE:.0%}]"]
    if comparison.ensemble is not None:
        captions.append(f"of {comparison.ensemble}'s gain")
    return [*captions, *(_caption(score.name, score.unit) for score in others)]


def row_cells(comparison: Comparison, result: TaskResult, row: Row) -> list[str]:
    """Write the cells under `column_names`; a dash where a row cannot have a value."""
    first, *others = result.info.scores
    cells = [plain(row.scores[first.name])]
    if len(result.rows) > 1:
        cells.append(gain_with_interval(row, first.name))
    if comparison.ensemble is not None:
        share = comparison.share(result, row)
        cells.append(NOTHING if share is None else percent(share))
    return [*cells, *(plain(row.scores[score.name]) for score in others)]


def gain_with_interval(row: Row, score: str) -> str:
    """Write a gain such as "+.016 [+.006, +.026]"; a dash for the reference."""
    if score not in row.gains:
        return NOTHING
    low, high = row.intervals[score]
    return f"{signed(row.gains[score])} [{signed(low)}, {signed(high)}]"


def cost_columns(comparison: Comparison) -> list[str]:
    """Write captions of the table of costs after the candidate's name."""
    return ["passes", "parameters", "ms per image", f"time / {comparison.reference}'s"]


def cost_cells(cost: Cost) -> list[str]:
    """Write the cells under `cost_columns`."""
    return [f"{cost.passes:,}", f"{cost.num_parameters:,}", milliseconds(cost.seconds), time_ratio(cost)]


def milliseconds(seconds: float) -> str:
    """Write milliseconds to three significant digits, without an exponent."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def time_ratio(cost: Cost) -> str:
    """Write time relative to the reference, with its interval where there is more than one pair."""
    if cost.latency is None:
        return "1"
    ratio = f"{cost.latency.ratio:.3g}"
    if cost.latency.num_pairs == 1:
        return ratio
    return f"{ratio} [{cost.latency.ratio_low:.3g}, {cost.latency.ratio_high:.3g}]"


def timing_note(comparison: Comparison) -> str:
    """Say how the times were measured."""
    rows, columns = comparison.settings["timed_image"]
    timed = [(cost.name, cost.latency) for cost in comparison.costs if cost.latency]
    pairs = "; ".join(f"{name}: {latency.num_pairs} ({latency.coverage:.0%})" for name, latency in timed)
    return (
        f"Times are of feature extraction alone, one image of {rows}x{columns} pixels, on "
        f"{comparison.settings['device']}; each candidate takes turns with {comparison.reference}, and the ratio is "
        f"the median over pairs of calls with the interval round it. Pairs (chance that the interval holds the true "
        f"median): {pairs or 'none'}."
    )


def interval_note(result: TaskResult) -> str:
    """Say how the intervals were made."""
    return (
        f"Brackets: {CONFIDENCE:.0%} interval of the gain, from a bootstrap over {len(result.items)} "
        f"{result.info.item}s that draws the same ones for both candidates."
    )


def render_markdown(comparison: Comparison) -> str:
    """Write verdicts, the tables, and the headline by item, as Markdown."""
    lines = ["# Comparison", ""]
    for result in comparison.tasks:
        names = column_names(comparison, result)
        lines += [f"## {result.info.title}", "", *(f"- {verdict}" for verdict in comparison.verdicts(result)), ""]
        cells = [[row.name, *row_cells(comparison, result, row)] for row in result.rows]
        lines += [*markdown_table(["candidate", *names], cells), "", interval_note(result), ""]
        if len(result.items) <= MOST_LISTED:
            score = result.headline.name
            by_item = [[item, *(plain(row.by_item[item][score]) for row in result.rows)] for item in result.items]
            header = [f"{score} by {result.info.item}", *(row.name for row in result.rows)]
            lines += [*markdown_table(header, by_item), ""]
        lines += [f"- {name}: {value}" for name, value in described_settings(result).items()]
        lines.append("")
    if comparison.costs:
        cells = [[cost.name, *cost_cells(cost)] for cost in comparison.costs]
        lines += ["## Costs", "", *markdown_table(["candidate", *cost_columns(comparison)], cells), ""]
        lines += [timing_note(comparison), ""]
    lines += [f"- {name}: {value}" for name, value in comparison.settings.items() if value]
    return "\n".join(lines) + "\n"


def described_settings(result: TaskResult) -> dict[str, object]:
    """Gather what a reader needs to tell this result from another of the task."""
    return {
        "task": f"{result.info.name}, version {result.info.version}",
        "protocol": result.info.source,
        **result.settings,
        "data": result.data[:16],
    }


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Write the lines of a Markdown table, first column to the left, numbers to the right."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], ruler, *escaped[1:])]


def _caption(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
