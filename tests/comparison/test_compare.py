"""Candidates on tasks: what is judged, what is found again, and what the page shows."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from srt_distill.comparison import compare, evaluate
from srt_distill.comparison.report.charts import curve_chart, gain_chart, item_chart
from srt_distill.comparison.report.sheets import choose_items, shown_candidate
from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.baselines import PyramidFeatures
from srt_distill.images import Normalization
from srt_distill.tasks import Candidate, Davis
from tests.comparison.toy import Brightness

FIFTH = Normalization((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Colours:
    """Mean colours of patches of 8 pixels, which moving squares can be followed by; counts its calls."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.num_calls += 1
        tokens = F.avg_pool2d(images, 8)
        return (torch.cat([tokens, tokens.square()], dim=1),)


def constant_tokens(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Features that tell no token from another."""
    return (torch.ones_like(F.avg_pool2d(images, 8)),)


def candidates(extract=None) -> list[Candidate]:
    colours = extract or Colours()
    srt = StochasticResonance(colours, radius=1)
    return [
        Candidate("teacher <1>", colours, FIFTH, 1, 10, {"weights": "a"}),
        Candidate("SRT & co", srt, FIFTH, 9, 10, {"weights": "a", "radius": 1}),
        Candidate("student", constant_tokens, FIFTH, 1, 10, {"weights": "b"}),
    ]


OPTIONS = {"ensemble": "SRT & co", "progress": False, "latency_pairs": 2, "num_pictures": 2, "num_draws": 50}


@pytest.fixture(scope="module")
def tasks(tiny_davis, tmp_path_factory):
    return [Davis(tiny_davis, scale=0.1), Brightness.example(tmp_path_factory.mktemp("brightness"))]


@pytest.fixture(scope="module")
def finished(tasks, tmp_path_factory):
    output = tmp_path_factory.mktemp("comparison")
    return compare(candidates(), tasks, output, **OPTIONS), output


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


def test_better_features_score_higher_and_costs_are_stated(finished):
    comparison, _ = finished
    teacher, _, student = comparison.tasks[0].rows
    assert teacher.scores["J-Mean"] > student.scores["J-Mean"] + 0.1
    assert [cost.passes for cost in comparison.costs] == [1, 9, 1]
    reference, srt, _ = comparison.costs
    assert reference.latency is None and reference.seconds > 0
    assert srt.latency is not None and srt.latency.num_pairs == 2


def test_a_task_of_one_file_is_everywhere(finished):
    comparison, output = finished
    brightness = comparison.tasks[1]
    assert brightness.info.name == "brightness" and len(brightness.items) == 7
    data = json.loads((output / "results.json").read_text())
    assert [task["name"] for task in data["tasks"]] == ["davis-2017", "brightness"]
    assert "Mean brightness" in (output / "results.md").read_text()
    assert "Mean brightness" in Page((output / "report.html").read_text()).text
    assert (output / "brightness" / "student" / "image-3" / "outcome.json").is_file()


def test_a_row_says_what_it_was_made_with(finished):
    comparison, output = finished
    data = json.loads((output / "results.json").read_text())
    for result, task in zip(comparison.tasks, data["tasks"]):
        assert task["settings"] == result.settings and len(task["data"]) == 64
        for row, found in zip(task["rows"], result.rows):
            assert row["scores"] == found.scores
            assert {"task", "task_version", "srt_distill", "command", "seconds", "fingerprint"} <= set(row)
    assert data["settings"]["timed_image"] == [48, 64]
    assert len(list((output / "davis-2017" / "srt-co" / "dogs").glob("*.png"))) == 5
    assert (output / "davis-2017" / "student" / "global_results-val.csv").is_file()


def test_gains_have_intervals_that_hold_them(finished):
    comparison, _ = finished
    for result in comparison.tasks:
        for row in result.rows[1:]:
            low, high = row.intervals[result.headline.name]
            assert low <= row.gains[result.headline.name] + 1e-9 and high >= row.gains[result.headline.name] - 1e-9


def test_page_needs_no_other_file_and_shows_names_as_they_are(finished):
    comparison, output = finished
    page = Page((output / "report.html").read_text())
    sources = page.attributes("src")
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(link.startswith("#") for link in page.attributes("href") + page.attributes("xlink:href"))
    assert "teacher <1>" in page.text and "SRT & co" in page.text
    for result in comparison.tasks:
        for verdict in comparison.verdicts(result):
            assert verdict in page.text
        for row in result.rows:
            assert f"{row.scores[result.headline.name]:.3f}" in page.text


def test_page_has_every_picture_and_chart(finished):
    _, output = finished
    page = Page((output / "report.html").read_text())
    labels = page.attributes("aria-label")
    assert [label for label in labels if label.startswith("J over the frames")] == [
        "J over the frames: cats",
        "J over the frames: dogs",
    ]
    alternatives = page.attributes("alt")
    for name in ("cats", "dogs"):
        for column in ("ground truth", "teacher <1>", "SRT & co", "student"):
            assert [alt for alt in alternatives if alt == f"{name}, frame 4, {column}"], (name, column)
    features = [attrs for tag, attrs in page.tags if tag == "img" and "as colours" in (attrs["alt"] or "")]
    assert len(features) == 12
    picture = Image.open(io.BytesIO(base64.b64decode(str(features[0]["src"]).split(",")[1])))
    assert picture.size == (8, 6), "one pixel per token"
    noise = [alt for alt in alternatives if alt.startswith("distance of")]
    assert noise == ["distance of teacher <1> to SRT & co"] * 4, "other widths have no distance"
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))


def test_a_pyramid_is_drawn_by_its_own_tokens(tasks, tmp_path):
    teacher, srt, _ = candidates()
    read = Candidate("student", PyramidFeatures(Colours()), FIFTH, 1, 10, {"weights": "b", "readout": "pyramid"})
    compare([teacher, srt, read], tasks[1:], tmp_path, **OPTIONS)
    page = Page((tmp_path / "report.html").read_text())
    pictures = {attrs["alt"]: attrs["src"] for tag, attrs in page.tags if tag == "img"}
    ours = {alt: src for alt, src in pictures.items() if alt and "distance of student" in alt}
    assert ours and all(src == pictures[alt.replace("student", "teacher <1>")] for alt, src in ours.items())


def test_killed_half_way_finished_items_are_not_judged_again(tasks, finished, tmp_path):
    comparison, _ = finished

    class Dies(Colours):
        def __call__(self, images):
            if self.num_calls == 21:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        compare(candidates(Dies()), tasks, tmp_path, **OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/outcome.json")}
    assert before
    again = compare(candidates(), tasks, tmp_path, **OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for ours, whole in zip(again.tasks, comparison.tasks):
        assert [replace(row, seconds=0.0) for row in ours.rows] == [replace(row, seconds=0.0) for row in whole.rows]


def test_an_evaluation_is_a_comparison_of_one(tasks, finished, tmp_path):
    comparison, _ = finished
    alone = evaluate(candidates()[0], tasks[:1], tmp_path / "one", progress=False)
    assert alone.tasks[0].rows[0].scores == comparison.tasks[0].rows[0].scores
    assert (tmp_path / "one" / "cats" / "00000.png").is_file()
    evaluate(candidates()[0], tasks, tmp_path / "two", progress=False)
    assert (tmp_path / "two" / "davis-2017" / "cats" / "00000.png").is_file()


def test_a_student_is_judged_under_its_own_normalization(tasks, tmp_path):
    seen = {}

    def note(name):
        def extract(images):
            seen[name] = images.mean().item()
            return constant_tokens(images)

        return extract

    pair = [
        Candidate("teacher", note("teacher"), FIFTH, fingerprint={"is": 1}),
        Candidate("student", note("student"), Normalization((0.0,) * 3, (1.0,) * 3), fingerprint={"is": 2}),
    ]
    compare(pair, tasks[1:], tmp_path, **(OPTIONS | {"ensemble": None, "num_pictures": 0, "latency_pairs": 0}))
    assert seen["teacher"] == pytest.approx((seen["student"] - 0.5) / 0.2, abs=1e-4)


def test_bad_names_are_refused_before_any_work(tasks, tmp_path):
    with pytest.raises(ValueError, match="ensemble 'SRT' is not among"):
        compare(candidates(), tasks, tmp_path / "out", **{**OPTIONS, "ensemble": "SRT"})
    with pytest.raises(ValueError, match="no task given"):
        compare(candidates(), [], tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_pictures_follow_the_student_though_baselines_stand_before_it(finished):
    comparison, _ = finished
    assert shown_candidate(comparison) == "student"
    assert shown_candidate(replace(comparison, costs=comparison.costs[:2], tasks=comparison.tasks)) != "teacher <1>"


def test_pictures_flatter_nobody():
    gains = {"a": 0.1, "b": -0.2, "c": 0.0, "d": 0.3, "e": 0.05}
    assert choose_items(gains, 3) == ["d", "e", "b"]
    assert choose_items(gains, 9) == ["d", "a", "e", "c", "b"]
    assert choose_items(gains, 0) == []


def test_charts_take_the_colour_and_width_of_the_page():
    values = {"a <b>": {"cats": 0.5, "dogs & co": 0.7}, "c": {"cats": 0.4, "dogs & co": 0.8}}
    svg = item_chart(values, "J&F", "video")
    head = svg[: svg.index(">")]
    assert svg.startswith("<svg ") and "viewBox" in head and "width=" not in head
    assert "currentColor" in svg and "#010203" not in svg
    assert "dogs &amp; co" in svg
    assert svg == item_chart(values, "J&F", "video"), "the same numbers draw the same chart"
    assert "sorted gains" in gain_chart(values, "c", "J&F", "video")


def test_a_name_cannot_break_out_of_a_chart():
    assert "<script>" not in curve_chart('"><script>', {"a": [0.1, 0.2]}, "J")
