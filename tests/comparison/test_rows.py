import json

import pytest

from srt_distill.comparison.report.table import column_names, milliseconds, render_markdown, row_cells
from srt_distill.comparison.rows import Comparison, Method, Row, check_methods
from srt_distill.latency import Latency
from srt_distill.tasks.davis.result_files import DavisResult, ObjectScores, SequenceResult
from srt_distill.tasks.davis.sequence_scores import Statistics

SETTINGS = {"sequences": ["cats", "dogs"], "num_frames": 10, "timed_image": [48, 64], "device": "CPU"}


def make_row(name: str, scores: tuple[float, float], passes: int = 1, latency: Latency | None = None) -> Row:
    """A row whose two sequences have these J means; F is always 0.1 above J."""
    sequences = tuple(
        SequenceResult(
            sequence, 5, (48, 64), (ObjectScores(1, Statistics(j, 1.0, 0.0), Statistics(j + 0.1, 1.0, 0.0)),), 0.01
        )
        for sequence, j in zip(("cats", "dogs"), scores)
    )
    result = DavisResult({"patch": 8, "fingerprint": {"name": name}}, sequences)
    return Row(name, passes, 1234, result, latency, 0.0123)


def make_comparison(student: tuple[float, float], srt: tuple[float, float] = (0.6, 0.6)) -> Comparison:
    slow = Latency(0.6, 0.012, 49.0, 48.0, 51.0, 0.96, 7)
    rows = (
        make_row("teacher", (0.4, 0.6)),
        make_row("SRT", srt, passes=49, latency=slow),
        make_row("student", student, latency=Latency(0.012, 0.012, 1.0, 1.0, 1.0, 0.0, 1)),
    )
    return Comparison(rows, "teacher", "SRT", SETTINGS)


def test_gain_and_share_are_relative_to_reference_and_ensemble():
    comparison = make_comparison((0.5, 0.65))
    teacher, srt, student = comparison.rows
    assert comparison.gain(student) == pytest.approx(0.075)
    assert comparison.share(student) == pytest.approx(0.75)
    assert comparison.share(srt) == pytest.approx(1)
    assert comparison.share(teacher) is None
    assert comparison.count_better(student) == (2, 2)


def test_a_student_that_gains_is_said_to_and_by_how_much():
    student, srt = make_comparison((0.5, 0.59)).verdicts()
    assert student.startswith("student (one pass a frame) beats teacher: J&F 0.595 against 0.550 (+0.045;")
    assert "better on 1 of 2 sequences" in student
    assert student.endswith("That is 45% of the gain of SRT (+0.100).")
    assert srt.startswith("SRT (49 passes a frame) beats teacher")


def test_a_student_that_does_not_gain_is_said_not_to():
    student = make_comparison((0.4, 0.5)).verdicts()[0]
    assert "does not beat teacher" in student
    assert "\N{MINUS SIGN}0.050" in student and "of the gain" not in student
    assert "does not beat teacher" in make_comparison((0.4, 0.6)).verdicts()[0], "a tie is no win"


def test_no_share_is_stated_of_an_ensemble_that_gains_nothing():
    comparison = make_comparison((0.5, 0.6), srt=(0.3, 0.6))
    assert comparison.share(comparison.row("student")) is None
    said = [verdict for verdict in comparison.verdicts() if "SRT itself does not gain here" in verdict]
    assert said == comparison.verdicts()[:1], "once is enough"
    assert row_cells(comparison, comparison.row("student"))[2] == "\N{EN DASH}"


def test_without_an_ensemble_there_are_no_shares():
    comparison = Comparison(make_comparison((0.5, 0.6)).rows[::2], "teacher", None, SETTINGS)
    assert comparison.verdicts()[0].endswith("sequences.")
    assert not any("gain" in name for name in column_names(comparison))
    assert len(row_cells(comparison, comparison.rows[1])) == len(column_names(comparison))


def test_markdown_has_every_number_in_its_column():
    comparison = make_comparison((0.5, 0.65))
    lines = render_markdown(comparison).splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| method"))
    names = [cell.strip() for cell in lines[header].strip("|").split("|")]
    table = {}
    for line in lines[header + 2 : header + 5]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        table[cells[0]] = dict(zip(names, cells, strict=True))
    assert table["student"]["J&F-Mean"] == "0.625"
    assert table["student"]["J-Mean"] == "0.575"
    assert table["student"]["of SRT's gain"] == "75%"
    assert table["SRT"]["passes"] == "49"
    assert table["SRT"]["time / teacher's"] == "49 [48, 51]"
    assert table["student"]["time / teacher's"] == "1", "an interval needs more than one pair"
    assert table["teacher"]["parameters"] == "1,234"
    assert "| cats | 0.450 | 0.650 | 0.550 |" in lines
    assert any("SRT: 7 (96%)" in line for line in lines)


def test_json_holds_what_the_table_shows():
    data = json.loads(json.dumps(make_comparison((0.5, 0.65)).to_dict(), allow_nan=False))
    student = data["rows"][2]
    assert student["share_of_ensemble_gain"] == pytest.approx(0.75)
    assert student["sequences"]["dogs"]["J-Mean"] == pytest.approx(0.65)
    assert data["rows"][1]["latency"]["ratio"] == 49
    assert data["rows"][0]["latency"] is None


def test_milliseconds_have_three_digits_and_no_exponent():
    assert [milliseconds(s) for s in (0.00123, 0.0456, 1.2345, 98.7)] == ["1.23", "45.6", "1,234", "98,700"]


def test_methods_that_cannot_share_a_table_are_refused():
    def method(name: str) -> Method:
        return Method(name, lambda images: (images,), 1, 1, {})

    teacher, student = method("teacher"), method("student")
    assert check_methods([teacher, student], None, None) == "teacher"
    assert check_methods([teacher, student], "student", None) == "student"
    assert method("SRT d=3").folder_name == "srt-d-3"
    with pytest.raises(ValueError, match="at least two"):
        check_methods([teacher], None, None)
    with pytest.raises(ValueError, match="more than one method would write to folder 'srt-1'"):
        check_methods([method("SRT 1"), method("srt-1")], None, None)
    with pytest.raises(ValueError, match="no letter or digit"):
        check_methods([teacher, method("?!")], None, None)
    with pytest.raises(ValueError, match="ensemble 'SRT' is not among the methods teacher, student"):
        check_methods([teacher, student], None, "SRT")
