"""What `fit` says at the end: plainly, whatever came of it."""

import signal
from pathlib import Path

import pytest

from srt_distill.commands.fit import advise, describe_result
from srt_distill.training.fit import FitResult

FOLDER = Path("runs/x")


def said(**scores: float) -> str:
    named = {f"val/{name}": value for name, value in scores.items()}
    return "\n".join(describe_result(FitResult(FOLDER, 7, named, layers=(-1, "-1:prefix"))))


def test_a_gain_is_said_layer_by_layer():
    lines = said(gap_closed=0.25, **{"gap_closed_layer_-1": 0.25, "gap_closed_layer_-1:prefix": -1.0}).splitlines()
    assert lines[1].startswith("gap closed on held-out images: 0.250 (0 = the teacher's single pass")
    assert lines[2:] == ["  layer -1: 0.250", "  layer -1:prefix: -1.000"]


@pytest.mark.parametrize("scores", [{"gap_closed": 0.0}, {"gap_closed": -0.2}])
def test_no_gain_is_said(scores):
    assert "it did not help on these images" in said(**scores)


@pytest.mark.parametrize(("relations", "helped"), [(0.4, True), (0.0, False), (-0.1, False)])
def test_relations_decide_where_they_are_taught(relations, helped):
    text = said(gap_closed=0.5 if not helped else -0.5, relations_closed=relations)
    assert f"relations between tokens, closed on held-out images: {relations:.3f}" in text
    assert ("it did not help" in text) != helped


def test_nothing_measured_is_said():
    text = said()
    assert "nothing was measured: no images were held out (data.held_out)" in text
    assert "gap closed" not in text


def test_other_scores_follow():
    text = "\n".join(
        describe_result(FitResult(FOLDER, 7, {"val/gap_closed_origin": 0.1, "davis/J&F": 0.8}, num_unreadable=2))
    )
    assert "gap closed from the first round's teacher: 0.100" in text
    assert "davis/J&F: 0.8000" in text
    assert "unreadable images skipped: 2" in text


def test_a_stopped_run_says_how_to_go_on():
    stopped = FitResult(FOLDER, 7, stopped_by=signal.SIGTERM)
    assert describe_result(stopped) == ["stopped by SIGTERM, saved at step 7"]
    assert advise(stopped, FOLDER) == ["go on:       the same command with --resume last"]
    never = FitResult(FOLDER, 0, stopped_by=signal.SIGINT)
    assert "nothing was saved" in describe_result(never)[0]
    assert advise(never, FOLDER) == []


def test_a_dry_run_leaves_nothing_to_go_on_with():
    dry = FitResult(FOLDER, 1, dry=True)
    assert "nothing is kept" in describe_result(dry)[0]
    assert advise(dry, FOLDER) == []


def test_what_comes_next_is_a_command():
    assert advise(FitResult(FOLDER, 7), FOLDER) == [
        "export it:   srt-distill export --checkpoint runs/x --output checkpoints/x"
    ]
