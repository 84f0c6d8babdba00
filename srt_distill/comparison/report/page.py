"""A comparison as one HTML page that needs no other file.

Shape legend: T frames, K objects, H W pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srt_distill.comparison.report.charts import COLORS, cost_chart, frame_chart, sequence_chart
from srt_distill.comparison.report.pictures import SequencePictures, shown_method
from srt_distill.comparison.report.table import column_names, milliseconds, protocol, row_cells, timing_note
from srt_distill.comparison.rows import SCORE, Comparison, Method, signed
from srt_distill.tasks.davis.sequence_scores import count_objects, region_similarity
from srt_distill.tasks.davis.videos import Video, read_mask


def render_html(
    comparison: Comparison,
    methods: Sequence[Method],
    videos: Sequence[Video],
    output: Path,
    pictures: Sequence[SequencePictures],
) -> str:
    """Fills the template.

    Args:
        comparison: the rows.
        methods: in the order of the rows; their fingerprints are listed.
        videos: the evaluated sequences.
        output: where each method's masks lie, in the folder of its name.
        pictures: what to show of some sequences.

    Returns:
        The page, pictures and charts included.
    """
    folders = {method.name: output / method.folder_name for method in methods}
    curves = {video.name: frame_curves(video, folders) for video in videos}
    rows = comparison.rows
    scores = {row.name: row.sequence_scores() for row in rows}
    cost = cost_chart(
        [1000 * row.seconds for row in rows],
        [row.result.scores[SCORE] for row in rows],
        "J&F",
    )
    template = Environment(
        loader=PackageLoader("srt_distill.comparison.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.j2")
    return template.render(
        comparison=comparison,
        verdicts=comparison.verdicts(),
        columns=column_names(comparison),
        cells={row.name: row_cells(comparison, row) for row in rows},
        colors={row.name: COLORS[i % len(COLORS)] for i, row in enumerate(rows)},
        milliseconds=milliseconds,
        signed=signed,
        timing_note=timing_note(comparison),
        cost_chart=Markup(cost),
        sequence_chart=Markup(sequence_chart(scores, "J&F")),
        frame_charts=[Markup(frame_chart(name, by_method)) for name, by_method in curves.items()],
        scores=scores,
        pictures=pictures,
        shown=shown_method(comparison),
        settings={**comparison.settings, **protocol(comparison)},
        fingerprints={method.name: json.dumps(dict(method.fingerprint), indent=1) for method in methods},
    )


def frame_curves(video: Video, folders: dict[str, Path]) -> dict[str, list[float]]:
    """J of each scored frame, averaged over the objects, from the masks on disk.

    Args:
        video: the sequence.
        folders: where masks lie, by method.

    Returns:
        By method: one value a frame, from the second to the last but one.
    """
    truth = np.stack([read_mask(path) for path in video.masks[1:-1]])
    num_objects = count_objects(read_mask(video.masks[0]))
    curves = {}
    for name, folder in folders.items():
        predicted = np.stack([read_mask(folder / video.name / path.name) for path in video.masks[1:-1]])
        by_object = [region_similarity(truth == k, predicted == k) for k in range(1, num_objects + 1)]
        curves[name] = np.mean(by_object, axis=0).tolist()
    return curves
