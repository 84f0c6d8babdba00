"""Targets: all shifts, drawn ones, cached ones, behind one call."""

import pytest
import torch

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import subset_shifts
from srt_distill.training.targets import AllShifts, CachedShifts, SampledShifts
from tests.ensemble.test_mean import PatchEmbedding

IMAGES = torch.randn(1, 3, 20, 28, dtype=torch.float64)


def srt(subset="full"):
    return StochasticResonance(PatchEmbedding(8), 2, margin=2, subset=subset)


def target(kind, draw, resonance=None, images=IMAGES):
    return kind(images.byte(), images, resonance or srt(), draw)[0]


def test_all_shifts_are_srt():
    assert torch.equal(target(AllShifts(), (0, 0)), srt()(IMAGES)[0])
    assert torch.equal(target(AllShifts(), (0, 3), srt("grid9")), srt()(IMAGES, subset_shifts(2, "grid9"))[0])


def test_seed_and_number_of_the_draw_decide_the_shifts():
    sampled = SampledShifts(3)
    assert torch.equal(target(sampled, (0, 5)), target(sampled, (0, 5)))
    assert any(not torch.equal(target(sampled, (0, 0)), target(sampled, (0, step))) for step in range(1, 4))
    assert any(not torch.equal(target(sampled, (0, s)), target(sampled, (1, s))) for s in range(4))


def test_a_draw_costs_as_many_passes_as_it_has_shifts():
    resonance = srt()
    target(SampledShifts(3), (0, 0), resonance, torch.randn(2, 3, 20, 28, dtype=torch.float64))
    assert sum(resonance.extract.batch_sizes) == 2 * 3


def test_draws_from_a_subset_are_of_it_and_have_its_mean():
    resonance = srt("grid9")
    draws = torch.stack([target(SampledShifts(2), (0, step), resonance) for step in range(600)])
    expected = resonance(IMAGES)[0]
    error = (draws.mean(0) - expected).norm() / (draws - expected).flatten(1).norm(dim=1).mean()
    assert error < 0.1
    with pytest.raises(ValueError, match="num_shifts 10 is not between 1 and the 9 shifts of subset 'grid9'"):
        target(SampledShifts(10), (0, 0), resonance)


def test_drawn_shifts_are_refused_with_a_loss_that_they_would_bias():
    with pytest.raises(ValueError, match=r"SampledShifts\(4\) with loss 'l1'.*AllShifts"):
        SampledShifts(4).check("l1")
    SampledShifts(4).check("mse")
    AllShifts().check("cosine")
    CachedShifts("targets").check("l1")


def test_a_target_says_what_it_is():
    assert SampledShifts(4).describe() == {
        "class_path": "srt_distill.training.targets.SampledShifts",
        "init_args": {"num_shifts": 4},
    }
    assert CachedShifts("targets").describe()["init_args"] == {"folder": "targets"}
