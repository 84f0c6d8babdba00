"""The paired bootstrap against what theory and a slow twin say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.comparison.intervals import paired_bootstrap
from srt_distill.tasks import Outcome


def outcomes(values):
    return [Outcome({"x": float(value)}) for value in values]


def mean(ours, reference):
    return {"x": sum(outcome.numbers["x"] for outcome in ours) / len(ours)}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), shift=st.floats(-1, 1))
def test_a_constant_gain_has_no_spread(seed, shift):
    theirs = np.random.default_rng(seed).normal(size=9)
    low, high = paired_bootstrap(mean, outcomes(theirs + shift), outcomes(theirs), num_draws=40)["x"]
    assert (low, high) == pytest.approx((shift, shift), abs=1e-9)


def test_an_interval_of_a_mean_is_the_textbook_one():
    generator = np.random.default_rng(0)
    theirs, gain = generator.normal(size=200), generator.normal(0.3, 0.5, size=200)
    low, high = paired_bootstrap(mean, outcomes(theirs + gain), outcomes(theirs), num_draws=2000)["x"]
    half = 1.96 * gain.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((gain.mean() - half, gain.mean() + half), abs=0.15 * half)


def test_the_same_items_are_drawn_for_both():
    hard = np.array([0.0] * 10 + [100.0] * 10)
    low, high = paired_bootstrap(mean, outcomes(hard + 0.1), outcomes(hard), num_draws=100)["x"]
    assert high - low < 1e-9, "unpaired draws would differ by tens"


def test_draws_in_which_a_score_is_undefined_are_left_out():
    def sometimes(ours, reference):
        values = [outcome.numbers["x"] for outcome in ours if outcome.numbers["x"] > 0]
        return {"x": float(np.mean(values)) if values else float("nan")}

    low, high = paired_bootstrap(sometimes, outcomes([-1, 2]), outcomes([-1, 1]), num_draws=60)["x"]
    assert (low, high) == (1, 1)
    assert paired_bootstrap(mean, outcomes([1]), outcomes([1]), num_draws=0) == {}
