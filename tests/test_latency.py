import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import quantile_test

from srt_distill.latency import measure_latency, median_interval

IMAGES = torch.zeros(1, 3, 8, 8)


def sleeper(seconds: float, calls: list[float]):
    def extract(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(seconds)
        time.sleep(seconds)
        return (images,)

    return extract


def test_calls_alternate_and_the_first_of_each_is_not_counted():
    calls: list[float] = []
    latency = measure_latency(sleeper(0.02, calls), IMAGES, sleeper(0.01, calls), IMAGES, max_pairs=6)
    assert calls == [0.02, 0.01, *[0.02, 0.01, 0.01, 0.02] * 3]
    assert latency.num_pairs == 6
    assert latency.seconds >= 0.02 and latency.reference_seconds >= 0.01
    assert latency.ratio_low <= latency.ratio <= latency.ratio_high
    assert 1 < latency.ratio < 2.5


def test_budget_stops_early_but_one_pair_is_always_measured():
    calls: list[float] = []
    latency = measure_latency(sleeper(0.02, calls), IMAGES, sleeper(0.0, calls), IMAGES, max_pairs=50, budget=0.0)
    assert (latency.num_pairs, len(calls)) == (1, 4)
    assert latency.ratio_low == latency.ratio == latency.ratio_high
    assert latency.coverage == 0


def test_extractors_run_without_gradients_on_their_own_images():
    seen = []

    def extract(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append((torch.is_inference_mode_enabled(), images.shape[-1]))
        return (images,)

    measure_latency(extract, IMAGES, extract, torch.zeros(1, 3, 16, 16), max_pairs=1)
    assert seen == [(True, 8), (True, 16)] * 2


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=40, unique=True))
def test_interval_is_no_wider_than_scipys_and_covers_as_promised(values):
    low, high, coverage = median_interval(values)
    theirs = quantile_test(values, p=0.5).confidence_interval(0.95)
    assert theirs.low <= low <= high <= theirs.high
    assert coverage >= 0.95


def test_interval_of_few_values_is_their_range_and_says_how_sure_it_is():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0, pytest.approx(0.75))
    assert median_interval([5.0]) == (5.0, 5.0, 0.0)
    with pytest.raises(ValueError, match="no value given"):
        median_interval([])


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="0 pairs asked for"):
        measure_latency(sleeper(0, []), IMAGES, sleeper(0, []), IMAGES, max_pairs=0)
