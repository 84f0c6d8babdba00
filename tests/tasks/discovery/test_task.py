from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srt_distill.images import IMAGENET
from srt_distill.tasks.discovery import Discovery
from srt_distill.tasks.discovery.corloc import box_overlap, finds_object
from srt_distill.tasks.discovery.task import pad_to_tokens
from srt_distill.tasks.regions.keys import KeyOptions
from srt_distill.tasks.task import Outcome
from tests.oracles import box_overlap_by_pixel
from tests.tasks.made_candidates import judge_all, made_candidate

CORNERS = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
BOXES = CORNERS.map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


@given(first=BOXES, second=BOXES)
def test_overlap_is_counted_in_pixels(first, second):
    assert box_overlap(first, second) == pytest.approx(box_overlap_by_pixel(first, second), abs=1e-6)


def test_half_an_overlap_with_any_object_counts():
    assert finds_object((0, 0, 10, 10), [(50, 50, 60, 60), (0, 0, 10, 19)])
    assert not finds_object((0, 0, 10, 10), [(0, 0, 10, 21), (90, 90, 99, 99)])


def test_it_finds_rectangles_on_its_example(tmp_path):
    task = replace(Discovery.example(tmp_path / "data"), keys=KeyOptions(center=True))  # colours share a mean
    outcomes = judge_all(task, made_candidate(patch=4), tmp_path / "out")
    scores = task.pool(list(outcomes.values()))
    assert scores["CorLoc"] == 1
    assert task.info.name == "discovery-voc2007"
    first = next(iter(outcomes.values())).numbers["boxes"]["TokenCut"]
    assert all(side % 4 == 0 for side in first)
    assert not (tmp_path / "out").exists()


def test_radius_0_changes_no_score(tmp_path):
    task = Discovery.example(tmp_path / "data")
    single = judge_all(task, made_candidate(), tmp_path)
    assert list(single.values()) == list(judge_all(task, made_candidate(radius=0), tmp_path).values())


def test_wins_and_losses_against_the_reference_are_counted(tmp_path):
    task = Discovery.example(tmp_path)
    ours, theirs = ([Outcome({"CorLoc": float(found)}) for found in row] for row in ((1, 0, 1, 1), (0, 1, 0, 1)))
    assert task.relate(ours, theirs) == {"won": 2, "lost": 1}
    assert {score.name for score in task.info.scores} >= {"won", "lost"}


def test_photographs_are_padded_at_the_bottom_and_right_with_what_becomes_0():
    image = Image.new("RGB", (30, 20), (10, 20, 30))
    canvas = pad_to_tokens(image, 16, IMAGENET)
    assert canvas.shape == (1, 3, 32, 32)
    assert (canvas[0, :, :20, :30] == torch.tensor([10.0, 20.0, 30.0])[:, None, None]).all()
    normalised = IMAGENET(canvas)
    assert normalised[..., 20:, :].abs().max() < 1e-5
    assert normalised[..., 30:].abs().max() < 1e-5
    assert pad_to_tokens(image, 10, IMAGENET).shape == (1, 3, 20, 30)


def test_boxes_end_with_the_photograph_not_with_its_padding(tmp_path):
    task = Discovery.example(tmp_path / "data")
    for outcome in judge_all(task, made_candidate(patch=32), tmp_path).values():
        for left, top, right, bottom in outcome.numbers["boxes"].values():
            assert 0 <= left < right <= 90
            assert 0 <= top < bottom <= 60


def test_pictures_show_boxes_of_either_method(tmp_path):
    task, candidate = Discovery.example(tmp_path), made_candidate()
    item = task.items()[0]
    outcome = judge_all(task, candidate, tmp_path)[item]
    sheet = task.draw(item, {"teacher": outcome}, {"teacher": tmp_path})
    assert [caption for caption, _ in sheet.rows] == ["TokenCut", "LOST"]
    for _, pictures in sheet.rows:
        assert list(pictures) == ["image", "ground truth", "teacher"]
        assert (pictures["teacher"] != pictures["image"]).any()
    assert task.view(candidate, item).dtype == torch.uint8
    assert task.view(candidate, item).shape == (1, 3, 64, 96)


def test_settings_name_all_that_scores_depend_on(tmp_path):
    settings = Discovery(tmp_path, no_hard=True).settings()
    assert settings["no_hard"] is True
    assert settings["split"] == "trainval"
    assert settings["keys"]["facet"] == "key"
