"""Online targets."""

import pytest
import torch

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import subset_shifts
from srt_distill.training.targets import OnlineTarget, check_target
from tests.ensemble.test_mean import PatchEmbedding


def target(num, seed=0):
    return OnlineTarget(StochasticResonance(PatchEmbedding(8), 2, margin=2), num, seed)


def test_without_a_number_of_shifts_the_target_is_srt():
    images = torch.randn(1, 3, 20, 28, dtype=torch.float64)
    whole = target(None)
    assert torch.equal(whole(images, 0)[0], whole.srt(images)[0])


def test_the_number_of_the_draw_decides_the_shifts():
    images = torch.randn(1, 3, 20, 28, dtype=torch.float64)
    sampled = target(3)
    assert torch.equal(sampled(images, 5)[0], sampled(images, 5)[0])
    assert any(not torch.equal(sampled(images, 0)[0], sampled(images, step)[0]) for step in range(1, 4))
    assert any(not torch.equal(sampled(images, s)[0], target(3, seed=1)(images, s)[0]) for s in range(4))


def test_a_draw_costs_as_many_passes_as_it_has_shifts():
    sampled = target(3)
    sampled(torch.randn(2, 3, 20, 28, dtype=torch.float64), 0)
    assert sum(sampled.srt.extract.batch_sizes) == 2 * 3


def test_a_subset_is_the_same_few_shifts_at_every_step():
    images = torch.randn(1, 3, 20, 28, dtype=torch.float64)
    srt = StochasticResonance(PatchEmbedding(8), 2, margin=2)
    few = OnlineTarget(srt, subset="grid9")
    expected = srt(images, subset_shifts(2, "grid9"))[0]
    assert all(torch.equal(few(images, step)[0], expected) for step in range(2))
    assert not torch.allclose(expected, srt(images)[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((4, "full", "l1", None), "sampled shifts bias every loss but mse"),
        ((4, "grid9", "mse", None), "shifts are drawn from the full grid; set shift_subset full"),
        ((4, "full", "mse", "targets"), "shifts_per_step 4 with target_cache targets"),
        ((None, "grid9", "mse", "targets"), "shift_subset grid9 with target_cache targets"),
    ],
)
def test_contradicting_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        check_target(*settings)


@pytest.mark.parametrize(
    "settings", [(None, "full", "l1", "targets"), (None, "grid9", "cosine", None), (4, "full", "mse", None)]
)
def test_settings_that_agree_are_taken(settings):
    check_target(*settings)
