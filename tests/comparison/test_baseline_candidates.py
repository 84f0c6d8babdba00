"""Baselines through the commands: `evaluate --baseline` and rows of `compare`."""

import json

import pytest

from srt_distill.cli import main

SMALL = ["--scale", "0.2", "--size_multiple", "8", "--sequences", "[cats]", "--progress", "false"]


@pytest.mark.parametrize(
    ("baseline", "passes"),
    [("naive_ensemble", 9), ("overlapping_tokens", 1), ("output_ensemble", 9), ("bicubic", 1)],
)
def test_evaluate_scores_a_baseline(tiny_folder, tiny_davis, tmp_path, capsys, baseline, passes):
    words = ["--backbone", str(tiny_folder), "--data", str(tiny_davis), "--output", str(tmp_path), *SMALL]
    assert main(["evaluate", *words, "--shift_radius", "1", "--baseline", baseline]) == 0
    assert f"\n{passes} passes a frame" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["fingerprint"]["baseline"] == baseline
    assert results["settings"]["patch"] == (4 if baseline == "overlapping_tokens" else 8)
    assert 0 < results["scores"]["J-Mean"] < 1


def test_compare_shows_baselines_as_rows_between_srt_and_student(tiny_folder, tiny_davis, tmp_path, capsys):
    words = ["--teacher", str(tiny_folder), "--student", str(tiny_folder), "--data", str(tiny_davis), *SMALL]
    more = ["--shift_radius", "1", "--baselines", "[output_ensemble, overlapping_tokens_pooled, bilinear]"]
    cheap = ["--latency_pairs", "1", "--num_pictures", "1"]
    assert main(["compare", *words, *more, *cheap, "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names == [
        "teacher",
        "SRT d=1",
        "output ensemble d=1",
        "overlapping tokens, stride 4, pooled",
        "bilinear features",
        "student, bilinear features",
        "student",
    ]
    assert [row["passes"] for row in rows] == [1, 9, 9, 1, 1, 1, 1]
    assert rows[4]["scores"] == rows[5]["scores"], "the student is the teacher here"
    page, table = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert all(name in page and f"| {name} |" in table for name in names)


def test_an_ensemble_without_a_radius_is_refused(tiny_folder, tiny_davis, tmp_path, capsys):
    words = ["--backbone", str(tiny_folder), "--data", str(tiny_davis), "--output", str(tmp_path), *SMALL]
    assert main(["evaluate", *words, "--baseline", "naive_ensemble"]) == 1
    assert "baseline naive_ensemble with shift radius 0" in capsys.readouterr().err


def test_a_baseline_takes_no_options_of_srt(tiny_folder, tiny_davis, tmp_path, capsys):
    words = ["--backbone", str(tiny_folder), "--data", str(tiny_davis), "--output", str(tmp_path), *SMALL]
    assert main(["evaluate", *words, "--baseline", "bilinear", "--statistic", "median", "--flip", "true"]) == 1
    assert "baseline bilinear with median, flips: statistic, grid_scale and flip" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
