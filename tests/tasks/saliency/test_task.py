from dataclasses import replace

import numpy as np
import pytest

from srt_distill.tasks.regions.keys import KeyOptions
from srt_distill.tasks.saliency import Saliency
from srt_distill.tasks.saliency.task import network_size, upsample_region
from tests.oracles import f_by_threshold
from tests.tasks.made_candidates import judge_all, made_candidate


@pytest.mark.parametrize("convention", ["tokencut", "toolbox"])
def test_it_finds_ellipses_on_its_example(tmp_path, convention):
    made = Saliency.example(tmp_path / "data")
    task = replace(made, solver=True, convention=convention, keys=KeyOptions(center=True))  # colours share a mean
    outcomes = judge_all(task, made_candidate(patch=4), tmp_path / "out")
    scores = task.pool(list(outcomes.values()))
    assert list(scores) == [score.name for score in task.info.scores]
    assert all(0 <= value <= 1 for value in scores.values())
    if convention == "tokencut":
        assert min(scores[name] for name in ("maxF", "IoU", "Acc", "maxF (solver)", "IoU (solver)")) > 0.7
    else:
        assert scores["maxF (toolbox)"] > 0.7
        assert scores["MAE"] < 0.15


def test_scores_are_those_of_the_masks_on_disk(tmp_path):
    from srt_distill.tasks.saliency.folders import read_grey

    task = Saliency.example(tmp_path / "data")
    outcomes = judge_all(task, made_candidate(), tmp_path / "out")
    curves, overlaps = [], []
    for item, outcome in outcomes.items():
        predicted, truth = read_grey(tmp_path / "out" / item.name / "mask.png") > 0, read_grey(item.files[1]) > 0
        curves.append(f_by_threshold(predicted.astype(float), truth))
        overlaps.append((predicted & truth).sum() / (predicted | truth).sum())
        assert outcome.numbers["features"] == "-1:key"
    scores = task.pool(list(outcomes.values()))
    assert scores["maxF"] == pytest.approx(np.mean(curves, 0).max())
    assert scores["IoU"] == pytest.approx(np.mean(overlaps))


def test_a_draw_of_a_bootstrap_pools_soft_and_hard_maps_alike(tmp_path):
    task = Saliency(Saliency.example(tmp_path / "data").root, solver=True)
    outcomes = list(judge_all(task, made_candidate(), tmp_path / "out").values())
    twice = task.pool([*outcomes, *outcomes])
    assert twice == pytest.approx(task.pool(outcomes))
    assert task.pool(outcomes[:1])["maxF"] == pytest.approx(max(outcomes[0].numbers["region"]["f_curve"]))


def test_radius_0_changes_no_score(tmp_path):
    task = Saliency.example(tmp_path / "data")
    single = judge_all(task, made_candidate(), tmp_path / "single")
    srt = judge_all(task, made_candidate(radius=0), tmp_path / "srt")
    assert list(single.values()) == list(srt.values())


@pytest.mark.parametrize(
    "size, multiple, short_side, expected",
    [
        ((321, 481), 16, None, (320, 480)),
        ((40, 56), 16, None, (32, 64)),
        ((5, 300), 16, None, (16, 304)),
        ((321, 481), 16, 224, (224, 336)),
    ],
)
def test_sides_go_to_the_nearest_multiple_half_to_even(size, multiple, short_side, expected):
    assert network_size(size, multiple, short_side) == expected


def test_regions_are_upsampled_by_nearest_neighbour():
    region = np.array([[True, False], [False, True]])
    large = upsample_region(region, (4, 5))
    assert large.tolist() == [[True] * 3 + [False] * 2] * 2 + [[False] * 3 + [True] * 2] * 2


def test_pictures_show_the_photograph_the_truth_and_every_candidate(tmp_path):
    task = Saliency(Saliency.example(tmp_path / "data").root, solver=True)
    candidate = made_candidate()
    outcomes = judge_all(task, candidate, tmp_path / "out")
    item = task.items()[0]
    folders = {name: tmp_path / "out" / item.name for name in ("teacher", "student")}
    sheet = task.draw(item, dict.fromkeys(folders, outcomes[item]), folders)
    assert [caption for caption, _ in sheet.rows] == ["TokenCut", "bilateral solver"]
    for _, pictures in sheet.rows:
        assert list(pictures) == ["image", "ground truth", "teacher", "student"]
        assert {picture.shape for picture in pictures.values()} == {(64, 96, 3)}
    assert task.view(candidate, item).shape == (1, 3, 64, 96)


def test_settings_name_all_that_scores_depend_on():
    from pathlib import Path

    settings = Saliency(Path("ECSSD")).settings()
    assert settings["cut"] == {"threshold": 0.2, "weak_edge": 1e-5}
    assert settings["keys"] == {"layer": -1, "facet": "key", "center": False}
    assert Saliency(Path("DUT-OMRON")).info.name == "saliency-dut-omron"
    with pytest.raises(ValueError, match="short_side 0"):
        Saliency(Path("ECSSD"), short_side=0).items()
