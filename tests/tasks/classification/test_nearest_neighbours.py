"""kNN: the vote against a loop, the traps of the public script, and the task from folder to scores."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.tasks.classification import NearestNeighbours
from srt_distill.tasks.classification.nearest_neighbours import nearest, vote
from tests.oracles import knn_class_by_votes
from tests.tasks.made_candidates import judge_all, made_candidate


@given(
    similarities=st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.9]), min_size=3, max_size=20),
    k=st.integers(1, 20),
    own=st.none() | st.integers(0, 2),
    data=st.data(),
)
def test_votes_are_those_of_the_loop(similarities, k, own, data):
    labels = data.draw(st.lists(st.integers(0, 4), min_size=len(similarities), max_size=len(similarities)))
    values = np.array(similarities)
    chosen = nearest(values, k, own)
    assert own not in chosen and len(chosen) == min(k, len(labels) - (own is not None))
    (winner, *_) = vote(values[chosen], np.array(labels)[chosen], 0.07)
    # votes that are equal on paper may differ by rounding, in either order of addition
    literal = knn_class_by_votes(similarities, labels, k, 0.07, own)
    weight = {c: sum(np.exp(values[i] / 0.07) for i in chosen if labels[i] == c) for c in (winner, literal)}
    assert winner == literal or weight[winner] == pytest.approx(weight[literal], rel=1e-12)


def test_equal_votes_go_to_the_lower_class_and_likeness_beats_number():
    assert vote(np.array([0.5, 0.5]), np.array([7, 3]), 0.07).tolist() == [3, 7]
    assert vote(np.array([0.9, 0.5, 0.5]), np.array([1, 0, 0]), 0.07).tolist() == [1, 0]
    assert vote(np.array([0.9, 0.89, 0.89]), np.array([1, 0, 0]), 0.07).tolist() == [0, 1]


@pytest.fixture
def colours(tmp_path):
    return NearestNeighbours.example(tmp_path / "colours")


def test_colours_are_classified_and_radius_zero_changes_nothing(colours, tmp_path):
    outcomes = judge_all(colours, made_candidate(), tmp_path)
    assert colours.pool(list(outcomes.values())) == {"top-1": 1, "top-5": 1} and len(outcomes) == 3
    zero = judge_all(colours, made_candidate(radius=0), tmp_path)
    assert [o.numbers for o in zero.values()] == [o.numbers for o in outcomes.values()]


def test_every_image_by_all_others_leaves_itself_out_by_index(colours, tmp_path):
    task = NearestNeighbours(colours.root / "train", leave_one_out=True, k=1, resize=None, crop=64)
    outcomes = judge_all(task, made_candidate(), tmp_path)
    assert len(outcomes) == 6
    for item, outcome in outcomes.items():
        assert outcome.numbers["neighbours"][0] != item.name
    assert task.pool(list(outcomes.values()))["top-1"] == 1


def test_a_file_that_is_there_twice_is_asked_and_votes_once(colours, tmp_path):
    root = colours.root / "train"
    shutil.copy(root / "ruby" / "ruby_0.png", root / "ruby" / "ruby_9.png")
    task = NearestNeighbours(root, leave_one_out=True, k=5, resize=None, crop=64)
    assert len(task.items()) == 6 and len(task.prepare(made_candidate())["labels"]) == 6


def test_pictures_show_neighbours(colours, tmp_path):
    item, outcome = next(iter(judge_all(colours, made_candidate(), tmp_path).items()))
    ((caption, pictures),) = colours.draw(item, {"cells": outcome}, {}).rows
    assert caption == "amber; cells: amber" and pictures["cells"].shape == (112, 2 * 112, 3)


def test_settings_know_the_voters_and_not_the_folder(colours, tmp_path):
    copy = NearestNeighbours(shutil.copytree(colours.root, tmp_path / "copy"), k=2, resize=None, crop=64)
    assert copy.settings() == colours.settings()
    next((copy.root / "train" / "jade").iterdir()).unlink()
    assert NearestNeighbours(copy.root, k=2, resize=None, crop=64).settings() != colours.settings()


@pytest.mark.parametrize(
    ("options", "kind", "fault"),
    [
        ({"k": 7}, ValueError, "k 7 neighbours of 6 labelled images"),
        ({"k": 0}, ValueError, "k 0 neighbours"),
        ({"k": 3, "leave_one_out": True}, ValueError, "k 3 neighbours of 2 labelled"),
        ({"temperature": 0.0}, ValueError, "temperature 0.0"),
        ({"train_split": "labelled"}, FileNotFoundError, "no folder labelled/ .* set leave_one_out"),
    ],
)
def test_what_cannot_work_is_refused_before_work(colours, options, kind, fault):
    with pytest.raises(kind, match=fault):
        NearestNeighbours(colours.root, **options).items()


def test_a_class_without_labelled_images_is_refused(colours):
    shutil.copytree(colours.root / "val" / "ruby", colours.root / "val" / "onyx")
    with pytest.raises(ValueError, match="of class 'onyx', of which there is no labelled image"):
        NearestNeighbours(colours.root, k=2).items()
