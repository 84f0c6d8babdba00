"""The table of a comparison: its columns, and the whole as Markdown.

Shape legend: none.
"""

from srt_distill.comparison.rows import Comparison, Row, percent, plain, signed
from srt_distill.tasks.davis.sequence_scores import SCORE_NAMES

COST_NAMES = ("passes", "parameters", "ms")  # of one frame
NOTHING = "\N{EN DASH}"


def column_names(comparison: Comparison) -> list[str]:
    """Captions after the method's name: what was gained first, then the official scores, then the costs."""
    gains = [f"Δ {comparison.reference}"]
    if comparison.ensemble is not None:
        gains.append(f"of {comparison.ensemble}'s gain")
    return [SCORE_NAMES[0], *gains, *SCORE_NAMES[1:], *COST_NAMES, f"time / {comparison.reference}'s"]


def row_cells(comparison: Comparison, row: Row) -> list[str]:
    """The cells under `column_names`; a dash where a row cannot have a value."""
    scores = [plain(row.result.scores[name]) for name in SCORE_NAMES]
    is_reference = row.name == comparison.reference
    gains = [NOTHING if is_reference else signed(comparison.gain(row))]
    if comparison.ensemble is not None:
        share = comparison.share(row)
        gains.append(NOTHING if share is None else percent(share))
    costs = [f"{row.passes:,}", f"{row.num_parameters:,}", milliseconds(row.seconds)]
    return [scores[0], *gains, *scores[1:], *costs, time_ratio(row)]


def milliseconds(seconds: float) -> str:
    """Three significant digits, without an exponent."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def time_ratio(row: Row) -> str:
    """Time relative to the reference, with its interval where there is more than one pair."""
    if row.latency is None:
        return "1"
    ratio = f"{row.latency.ratio:.3g}"
    if row.latency.num_pairs == 1:
        return ratio
    return f"{ratio} [{row.latency.ratio_low:.3g}, {row.latency.ratio_high:.3g}]"


def timing_note(comparison: Comparison) -> str:
    """How the times were measured, in one sentence."""
    rows, columns = comparison.settings["timed_image"]
    timed = [(row.name, row.latency) for row in comparison.rows if row.latency]
    pairs = "; ".join(f"{name}: {latency.num_pairs} ({latency.coverage:.0%})" for name, latency in timed)
    return (
        f"Times are of feature extraction alone, one frame of {rows}x{columns} pixels, on "
        f"{comparison.settings['device']}; each method takes turns with {comparison.reference}, and the ratio is the "
        f"median over pairs of calls with the interval round it. Pairs (chance that the interval holds the true "
        f"median): {pairs}."
    )


def render_markdown(comparison: Comparison) -> str:
    """Verdicts, the table, and J&F by sequence.

    Args:
        comparison: the rows.

    Returns:
        Markdown.
    """
    names = column_names(comparison)
    lines = ["# Comparison on DAVIS label propagation", ""]
    lines += [f"- {verdict}" for verdict in comparison.verdicts()]
    lines += ["", *_table(["method", *names], [[row.name, *row_cells(comparison, row)] for row in comparison.rows])]
    lines += ["", timing_note(comparison), "", "## J&F by sequence", ""]
    by_method = [row.sequence_scores() for row in comparison.rows]
    sequences = [[name, *(f"{scores[name]:.3f}" for scores in by_method)] for name in by_method[0]]
    lines += _table(["sequence", *(row.name for row in comparison.rows)], sequences)
    lines += ["", "## Settings", ""]
    settings = {**comparison.settings, "protocol": protocol(comparison)}
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def protocol(comparison: Comparison) -> dict[str, object]:
    """The settings of the evaluation that all rows share."""
    first, *others = (row.result.settings for row in comparison.rows)
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], ruler, *escaped[1:])]
