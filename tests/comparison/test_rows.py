"""What rows say: gains, shares, verdicts, tables."""

import json
from dataclasses import replace

import pytest

from srt_distill.comparison.report.table import column_names, milliseconds, render_markdown, row_cells
from srt_distill.comparison.rows import Comparison, Cost, Row, TaskResult, as_folder, check_names
from srt_distill.latency import Latency
from srt_distill.tasks import Score, TaskInfo

ITEMS = tuple(f"video-{number}" for number in range(8))
SETTINGS = {"srt_distill": "0.1.0", "timed_image": [48, 64], "device": "CPU", "command": "srt-distill compare"}


def make_row(name, score, reference=None, spread=0.01):
    """A row whose items all have the score, and whose gain has an interval of ± spread."""
    gains = {} if reference is None else {"quality": score - reference, "error": 0.0}
    intervals = {n: (gain - spread, gain + spread) for n, gain in gains.items()}
    scores = {"quality": score, "error": 0.2}
    return Row(name, scores, {item: scores for item in ITEMS}, gains, intervals, 1.5, {"weights": name})


def make_comparison(student, srt=0.6, spread=0.01, items=ITEMS, higher=True, ensemble="SRT"):
    info = TaskInfo("toy", "2", "Toy", "video", (Score("quality", higher), Score("error", False, "m")), "nobody")
    rows = (make_row("teacher", 0.5), make_row("SRT", srt, 0.5), make_row("student", student, 0.5, spread))
    result = TaskResult(info, {"scale": 0.5}, "f" * 64, tuple(items), rows)
    slow = Latency(0.6, 0.012, 49.0, 48.0, 51.0, 0.96, 7)
    costs = (
        Cost("teacher", 1, 1234, 0.012, None),
        Cost("SRT", 49, 1234, 0.6, slow),
        Cost("student", 1, 1234, 0.012, Latency(0.012, 0.012, 1.0, 1.0, 1.0, 0.0, 1)),
    )
    return Comparison((result,), costs, "teacher", ensemble, dict(SETTINGS))


def verdicts(comparison):
    return comparison.verdicts(comparison.tasks[0])


def test_a_student_that_gains_is_said_to_and_by_how_much():
    student, srt = verdicts(make_comparison(0.545))
    assert student.startswith("student (one pass per image) beats teacher: quality 0.545 against 0.500 (+0.045 [+0.035")
    assert "better on 8 of 8 videos" in student
    assert student.endswith("That is 45% of the gain of SRT (+0.100).")
    assert srt.startswith("SRT (49 passes per image) beats teacher")


def test_without_costs_nothing_is_said_of_passes():
    assert all("per image" not in line for line in verdicts(replace(make_comparison(0.545), costs=())))


def test_where_the_interval_holds_nothing_the_verdict_cannot_tell():
    student = verdicts(make_comparison(0.545, spread=0.05))[0]
    assert "8 videos cannot tell" in student and "beats" not in student and "%" not in student


def test_few_items_cannot_tell_whatever_the_interval():
    student = verdicts(make_comparison(0.545, items=ITEMS[:4]))[0]
    assert "4 videos are too few to tell" in student and "beats" not in student


def test_a_student_that_loses_is_said_to():
    student = verdicts(make_comparison(0.45))[0]
    assert "does not beat teacher" in student
    assert "\N{MINUS SIGN}0.050" in student and "of the gain" not in student


def test_a_lower_error_is_a_gain():
    student = verdicts(make_comparison(0.45, srt=0.4, higher=False))[0]
    assert "beats teacher" in student and "That is 50% of the gain of SRT (\N{MINUS SIGN}0.100)" in student


def test_no_share_is_stated_of_an_ensemble_that_gains_nothing():
    comparison = make_comparison(0.55, srt=0.45)
    result = comparison.tasks[0]
    assert comparison.share(result, result.row("student")) is None
    said = [verdict for verdict in verdicts(comparison) if "SRT itself does not gain here" in verdict]
    assert said == verdicts(comparison)[:1], "once is enough"
    assert row_cells(comparison, result, result.row("student"))[2] == "\N{EN DASH}"


def test_without_an_ensemble_there_are_no_shares():
    comparison = make_comparison(0.55, ensemble=None)
    result = comparison.tasks[0]
    assert not any("gain" in name for name in column_names(comparison, result))
    assert len(row_cells(comparison, result, result.rows[1])) == len(column_names(comparison, result))


def test_markdown_has_every_number_in_its_column():
    comparison = make_comparison(0.545)
    lines = render_markdown(comparison).splitlines()

    def table(first):
        header = next(i for i, line in enumerate(lines) if line.startswith("| candidate") and first in line)
        names = [cell.strip() for cell in lines[header].strip("|").split("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[header + 2 : header + 5]]
        return {cells[0]: dict(zip(names, cells, strict=True)) for cells in rows}

    scores, costs = table("quality"), table("passes")
    assert scores["student"]["quality"] == "0.545"
    assert scores["student"]["Δ teacher [95%]"] == "+0.045 [+0.035, +0.055]"
    assert scores["student"]["of SRT's gain"] == "45%"
    assert scores["student"]["error (m)"] == "0.200"
    assert costs["SRT"]["passes"] == "49"
    assert costs["SRT"]["time / teacher's"] == "49 [48, 51]"
    assert costs["student"]["time / teacher's"] == "1", "an interval needs more than one pair"
    assert "| video-0 | 0.500 | 0.600 | 0.545 |" in lines
    assert any("SRT: 7 (96%)" in line for line in lines)


def test_json_holds_what_the_table_shows():
    data = json.loads(json.dumps(make_comparison(0.545).to_dict(), allow_nan=False))
    student = data["tasks"][0]["rows"][2]
    assert student["share_of_ensemble_gain"] == pytest.approx(0.45)
    assert student["by_item"]["video-3"]["quality"] == 0.545
    assert (student["task_version"], student["command"]) == ("2", "srt-distill compare")
    assert data["costs"][1]["latency"]["ratio"] == 49
    assert data["costs"][0]["latency"] is None


def test_milliseconds_have_three_digits_and_no_exponent():
    assert [milliseconds(s) for s in (0.00123, 0.0456, 1.2345, 98.7)] == ["1.23", "45.6", "1,234", "98,700"]


def test_candidates_that_cannot_share_a_table_are_refused():
    assert check_names(["teacher", "student"], None, None) == "teacher"
    assert check_names(["teacher", "student"], "student", None) == "student"
    assert as_folder("SRT d=3") == "srt-d-3"
    with pytest.raises(ValueError, match="no candidate given"):
        check_names([], None, None)
    with pytest.raises(ValueError, match="folder 'srt-1'"):
        check_names(["SRT 1", "srt-1"], None, None)
    with pytest.raises(ValueError, match="no letter or digit"):
        check_names(["teacher", "?!"], None, None)
    with pytest.raises(ValueError, match="ensemble 'SRT' is not among the candidates teacher, student"):
        check_names(["teacher", "student"], None, "SRT")
