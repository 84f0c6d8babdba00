import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from srt_distill.comparison.compare import compare
from srt_distill.comparison.report.charts import frame_chart, sequence_chart
from srt_distill.comparison.report.pictures import choose_sequences, shown_method
from srt_distill.comparison.rows import Method
from srt_distill.ensemble import StochasticResonance


def colour_tokens(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mean colours of patches of 8 pixels, which moving squares can be followed by."""
    tokens = F.avg_pool2d(images, 8)
    return (torch.cat([tokens, tokens.square()], dim=1),)


def constant_tokens(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Features that tell no token from another."""
    return (torch.ones_like(F.avg_pool2d(images, 8)),)


METHODS = (
    Method("teacher <1>", colour_tokens, 1, 10, {"weights": "a"}),
    Method("SRT & co", StochasticResonance(colour_tokens, radius=1), 9, 10, {"weights": "a", "radius": 1}),
    Method("student", constant_tokens, 1, 10, {"weights": "b"}),
)
OPTIONS = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "ensemble": "SRT & co",
    "scale": 0.1,
    "device": torch.device("cpu"),
    "progress": False,
    "latency_pairs": 2,
    "num_pictures": 2,
}


@pytest.fixture(scope="module")
def finished(tiny_davis, tmp_path_factory):
    output = tmp_path_factory.mktemp("comparison")
    return compare(METHODS, tiny_davis, output, **OPTIONS), output


class Page(HTMLParser):
    """Tags and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


def test_rows_are_the_evaluations_and_better_features_score_higher(finished):
    comparison, _ = finished
    teacher, srt, student = comparison.rows
    assert teacher.result.scores["J-Mean"] > student.result.scores["J-Mean"] + 0.1
    assert [row.passes for row in comparison.rows] == [1, 9, 1]
    assert teacher.latency is None and teacher.seconds > 0
    assert srt.latency is not None and srt.latency.num_pairs == 2
    assert any("student (one pass a frame) does not beat teacher" in verdict for verdict in comparison.verdicts())


def test_numbers_and_masks_are_on_disk(finished):
    comparison, output = finished
    data = json.loads((output / "results.json").read_text())
    assert [row["scores"]["J&F-Mean"] for row in data["rows"]] == [
        row.result.scores["J&F-Mean"] for row in comparison.rows
    ]
    assert data["settings"]["sequences"] == ["cats", "dogs"]
    assert data["settings"]["timed_image"] == [48, 64]
    assert "| SRT & co |" in (output / "results.md").read_text()
    assert len(list((output / "srt-co" / "dogs").glob("*.png"))) == 5


def test_page_needs_no_other_file_and_shows_names_as_they_are(finished):
    comparison, output = finished
    page = Page((output / "report.html").read_text())
    sources = page.attributes("src")
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(link.startswith("#") for link in page.attributes("href") + page.attributes("xlink:href"))
    assert "teacher <1>" in page.text and "SRT & co" in page.text
    for verdict in comparison.verdicts():
        assert verdict in page.text
    for row in comparison.rows:
        assert f"{row.result.scores['J&F-Mean']:.3f}" in page.text


def test_page_has_every_picture_and_chart(finished):
    _, output = finished
    page = Page((output / "report.html").read_text())
    labels = page.attributes("aria-label")
    assert [label for label in labels if label.startswith("J over")] == [
        "J over the frames of cats",
        "J over the frames of dogs",
    ]
    assert len(labels) == 4
    alternatives = page.attributes("alt")
    for name in ("cats", "dogs"):
        for column in ("ground truth", "teacher <1>", "SRT & co", "student"):
            assert [alt for alt in alternatives if alt == f"{name}, frame 4, {column}"], (name, column)
    features = [attrs for tag, attrs in page.tags if tag == "img" and "as colours" in (attrs["alt"] or "")]
    assert len(features) == 6
    picture = Image.open(io.BytesIO(base64.b64decode(str(features[0]["src"]).split(",")[1])))
    assert picture.size == (8, 6), "one pixel a token"
    noise = [alt for alt in alternatives if alt.startswith("distance of")]
    assert noise == ["distance of teacher <1> to SRT & co"] * 2, "other widths have no distance"


def test_ids_in_the_page_are_unique_and_found(finished):
    _, output = finished
    text = (output / "report.html").read_text()
    page = Page(text)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("xlink:href")} <= set(ids)


def test_a_second_run_computes_no_sequence_again(finished, tiny_davis):
    comparison, output = finished

    masks = {path: path.stat().st_mtime_ns for path in output.glob("*/*/*.png")}
    again = compare(METHODS, tiny_davis, output, **OPTIONS)
    assert [row.result for row in again.rows] == [row.result for row in comparison.rows]
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*/*.png")} == masks


def test_bad_names_are_refused_before_any_work(tiny_davis, tmp_path):
    with pytest.raises(ValueError, match="ensemble 'SRT' is not among"):
        compare(METHODS, tiny_davis, tmp_path / "out", **{**OPTIONS, "ensemble": "SRT"})
    assert not (tmp_path / "out").exists()


def test_pictures_follow_the_student_though_baselines_stand_before_it(finished):
    comparison, _ = finished
    teacher, srt, student = comparison.rows
    rows = (teacher, srt, replace(student, name="baseline"), student)
    assert shown_method(replace(comparison, rows=rows)) == "student"
    assert shown_method(replace(comparison, rows=(teacher, srt))) == "SRT & co"


def test_pictures_flatter_nobody():
    gains = {"a": 0.1, "b": -0.2, "c": 0.0, "d": 0.3, "e": 0.05}
    assert choose_sequences(gains, 3) == ["d", "e", "b"]
    assert choose_sequences(gains, 9) == ["d", "a", "e", "c", "b"]
    assert choose_sequences(gains, 0) == []


def test_charts_take_the_colour_and_width_of_the_page():
    svg = sequence_chart({"a <b>": {"cats": 0.5, "dogs & co": 0.7}, "c": {"cats": 0.4, "dogs & co": 0.8}}, "J&F")
    head = svg[: svg.index(">")]
    assert svg.startswith("<svg ") and "viewBox" in head and "width=" not in head
    assert "currentColor" in svg and "#010203" not in svg
    assert "dogs &amp; co" in svg
    assert svg == sequence_chart(
        {"a <b>": {"cats": 0.5, "dogs & co": 0.7}, "c": {"cats": 0.4, "dogs & co": 0.8}}, "J&F"
    ), "the same numbers draw the same chart"


def test_a_name_cannot_break_out_of_a_chart():
    assert "<script>" not in frame_chart('"><script>', {"a": [0.1, 0.2]})
