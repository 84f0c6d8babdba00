"""A comparison as one HTML page that needs no other file.

Shape legend: none.
"""

import json
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srt_distill.comparison.report.charts import COLORS, cost_chart, curve_chart, gain_chart, item_chart
from srt_distill.comparison.report.sheets import ItemPictures, photo_uri, shown_candidate, tokens_uri
from srt_distill.comparison.report.table import (
    MOST_LISTED,
    column_names,
    cost_cells,
    cost_columns,
    described_settings,
    interval_note,
    milliseconds,
    row_cells,
    timing_note,
)
from srt_distill.comparison.rows import Comparison, TaskResult, plain, signed

MOST_CHARTED = 40  # items with a line of their own in a chart


def render_html(comparison: Comparison, pictures: Mapping[str, Sequence[ItemPictures]]) -> str:
    """Fill the template.

    Args:
        comparison: The rows.
        pictures: By name of a task, what is shown of some of its items.

    Returns:
        The page, pictures and charts included.
    """
    names = [row.name for row in comparison.tasks[0].rows]
    template = Environment(
        loader=PackageLoader("srt_distill.comparison.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.j2")
    return template.render(
        comparison=comparison,
        names=names,
        colors={name: COLORS[i % len(COLORS)] for i, name in enumerate(names)},
        costs={cost.name: cost for cost in comparison.costs},
        cost_columns=cost_columns(comparison),
        cost_cells=cost_cells,
        cost_chart=Markup(_draw_costs(comparison)) if comparison.costs else "",
        timing_note=timing_note(comparison) if comparison.costs else "",
        sections=[_section(comparison, result, pictures[result.info.name]) for result in comparison.tasks],
        shown=shown_candidate(comparison),
        milliseconds=milliseconds,
        plain=plain,
        signed=signed,
        photo=photo_uri,
        tokens=tokens_uri,
        fingerprints={row.name: json.dumps(dict(row.fingerprint), indent=1) for row in comparison.tasks[0].rows},
    )


def _section(comparison: Comparison, result: TaskResult, pictures: Sequence[ItemPictures]) -> dict[str, object]:
    """Gather what the page says of one task."""
    score = result.headline
    values = {row.name: {item: row.by_item[item][score.name] for item in result.items} for row in result.rows}
    chart = (
        item_chart(values, score.name, result.info.item)
        if len(result.items) <= MOST_CHARTED
        else gain_chart(values, comparison.reference, score.name, result.info.item)
    )
    return {
        "result": result,
        "score": score.name,
        "direction": 1 if score.higher_is_better else -1,
        "verdicts": comparison.verdicts(result),
        "columns": column_names(comparison, result),
        "cells": {row.name: row_cells(comparison, result, row) for row in result.rows},
        "interval_note": interval_note(result),
        "chart": Markup(chart),
        "curves": [
            Markup(curve_chart(item.name, item.sheet.curves, item.sheet.curve_label))
            for item in pictures
            if item.sheet.curves
        ],
        "pictures": pictures,
        "values": values if len(result.items) <= MOST_LISTED else {},
        "settings": described_settings(result),
    }


def _draw_costs(comparison: Comparison) -> str:
    result = comparison.tasks[0]
    score = result.headline.name
    scores = {row.name: row.scores[score] for row in result.rows}
    costs = comparison.costs
    return cost_chart([1000 * cost.seconds for cost in costs], [scores[cost.name] for cost in costs], score)
