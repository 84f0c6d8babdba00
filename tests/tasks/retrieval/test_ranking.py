"""Average precision, precision and recall at k: literal values, and a walk down the ranking."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.tasks.retrieval.ranking import (
    average_precision,
    positive_ranks,
    precision_at,
    rank_gallery,
    recall_at,
)
from tests.oracles import average_precision_by_curve


@pytest.mark.parametrize(("ranks", "wanted"), [([0], 1), ([1], 0.25), ([0, 2], 0.7917), ([0, 1, 2], 1), ([3], 0.125)])
def test_average_precision_by_trapezoids(ranks, wanted):
    assert average_precision(ranks) == pytest.approx(wanted, abs=5e-5)


@given(st.integers(1, 30), st.data())
def test_average_precision_equals_the_walk_down_the_curve(num_images, data):
    ranking = data.draw(st.permutations(range(num_images)))
    kinds = data.draw(st.lists(st.sampled_from("pjn"), min_size=num_images, max_size=num_images))
    positives = {i for i, kind in enumerate(kinds) if kind == "p"}
    junk = {i for i, kind in enumerate(kinds) if kind == "j"}
    ours = average_precision(positive_ranks(ranking, positives, junk))
    if not positives:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(average_precision_by_curve(ranking, positives, junk), abs=1e-12)


def test_junk_is_taken_out_before_anything_is_counted():
    assert positive_ranks([7, 3, 5, 1], positives={3, 1}, junk={7, 5}) == [0, 1]
    assert positive_ranks([7, 3], positives={7}, junk={7}) == [0]  # what is right is not junk


def test_precision_stops_at_the_last_positive():
    assert precision_at(10, [0, 1]) == 1  # hits at 1 and 2 only: P@10 is 1
    assert precision_at(5, [0, 9]) == 0.2
    assert precision_at(1, [1]) == 0
    assert math.isnan(precision_at(1, []))


def test_recall_is_whether_the_first_positive_is_in_time():
    assert [recall_at(k, [2, 5]) for k in (1, 2, 4, 8)] == [0, 0, 1, 1]
    assert math.isnan(recall_at(1, []))


def test_equal_similarities_are_ranked_by_index():
    assert rank_gallery(np.array([0.5, 0.9, 0.5, 0.9])).tolist() == [1, 3, 0, 2]
