"""Median and variance over shifts against pixel-resolution loops, and their laws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.ensemble import (
    ConfidentResonance,
    FineResonance,
    ShiftVariance,
    StochasticResonance,
    aligned_maps,
    confidence,
)
from srt_distill.ensemble.statistics import ShiftStatistic, lean_on_neighbours, offset_classes
from tests.ensemble.test_mean import PatchEmbedding
from tests.oracles import shifts_per_pixel

LITERAL = {
    "median": lambda values, present: np.median(values, axis=0),
    "variance": lambda values, present: ((values - values.mean(0)) ** 2).mean(0),
}


@settings(deadline=None, max_examples=12)
@given(
    patch=st.sampled_from([4, 6, 8]),
    columns=st.integers(2, 3),
    radius=st.integers(0, 3),
    subset=st.sampled_from(["full", "checkerboard", "grid9"]),
    statistic=st.sampled_from(["median", "variance"]),
    data=st.data(),
)
def test_statistics_equal_the_pixel_by_pixel_ones(patch, columns, radius, subset, statistic, data):
    scale = data.draw(st.sampled_from([s for s in range(1, patch + 1) if patch % s == 0]))
    image = np.random.default_rng(radius).normal(size=(3, 2 * patch, columns * patch))
    extract = PatchEmbedding(patch, channels=2)
    srt = StochasticResonance(extract, radius, subset=subset, views_per_batch=4)
    (ours,) = ShiftStatistic(srt, statistic, scale)(torch.from_numpy(image)[None])
    literal = shifts_per_pixel(extract.on_array, image, srt.shifts, patch, "edge", LITERAL[statistic], scale)
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12


@pytest.mark.parametrize("statistic", ["median", "variance"])
def test_an_even_number_of_shifts_equals_the_pixel_by_pixel_one(statistic):
    image = np.random.default_rng(0).normal(size=(3, 16, 24))
    extract = PatchEmbedding(8)
    srt = StochasticResonance(extract, 2, subset="grid16")
    (ours,) = ShiftStatistic(srt, statistic)(torch.from_numpy(image)[None])
    literal = shifts_per_pixel(extract.on_array, image, srt.shifts, 8, "edge", LITERAL[statistic])
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12


@pytest.mark.parametrize(("patch", "radius", "num"), [(16, 3, 7), (8, 7, 8), (4, 2, 4), (16, 0, 1)])
def test_a_token_has_few_kinds_of_pixel(patch, radius, num):
    kinds, shares = offset_classes(list(range(-radius, radius + 1)), patch, 2)
    assert len(kinds) == num
    assert torch.allclose(shares.sum(0), torch.ones(2, dtype=torch.float64))


def test_constant_images_have_no_variance_and_themselves_as_median():
    images = torch.full((1, 3, 16, 24), 0.3, dtype=torch.float64)
    extract = PatchEmbedding(8)
    srt = StochasticResonance(extract, 3)
    assert torch.allclose(ShiftStatistic(srt, "median")(images)[0], extract(images)[0], atol=1e-14)
    assert ShiftStatistic(srt, "variance")(images)[0].abs().max() < 1e-28


def test_variance_is_the_mean_square_less_the_squared_mean():
    images = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    extract = PatchEmbedding(8)
    mean = FineResonance(StochasticResonance(extract, 2), 8)(images)[0]
    square = FineResonance(StochasticResonance(lambda x: tuple(m**2 for m in extract(x)), 2), 8)(images)[0]
    variance = ShiftStatistic(StochasticResonance(extract, 2), "variance", 8)(images)[0]
    assert torch.allclose(variance, square - mean**2, atol=1e-13)
    on_tokens = ShiftStatistic(StochasticResonance(extract, 2), "variance")(images)[0]
    assert torch.allclose(on_tokens, F.avg_pool2d(variance, 8), atol=1e-13)


def test_radius_zero_is_the_single_pass_without_variance():
    images = torch.randn(2, 3, 16, 24)
    extract = PatchEmbedding(8, dtype=torch.float32, num_layers=2)
    srt = StochasticResonance(extract, 0)
    for median, variance, single in zip(
        ShiftStatistic(srt, "median")(images), ShiftStatistic(srt, "variance")(images), extract(images)
    ):
        assert torch.equal(median, single)
        assert not variance.any()


def test_a_map_of_one_token_stays_one_token():
    images = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    whole = ShiftStatistic(StochasticResonance(lambda x: (x.mean((2, 3), keepdim=True),), 1), "median", 2)(images)[0]
    assert whole.shape == (1, 3, 1, 1)


def test_what_has_no_statistic_is_refused():
    with pytest.raises(ValueError, match="border 'zeros' leaves pixels without a value, of which there is no median"):
        ShiftStatistic(StochasticResonance(PatchEmbedding(8), 1, "zeros"), "median")
    with pytest.raises(ValueError, match="scale 3 does not divide the patch side 8"):
        ShiftStatistic(StochasticResonance(PatchEmbedding(8), 1), "median", 3)(torch.zeros(1, 3, 16, 16).double())
    with pytest.raises(ValueError, match="shift 8 is not smaller than the patch side 8"):
        ShiftStatistic(StochasticResonance(PatchEmbedding(8), 8), "median")(torch.zeros(1, 3, 16, 16).double())


@given(st.integers(1, 3), st.sampled_from([(2, 2), (2, 3)]), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_streamed_variance_is_the_mean_squared_distance_to_srt(radius, grid, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, grid[0] * 8, grid[1] * 8, generator=generator, dtype=torch.float64)
    srt = StochasticResonance(PatchEmbedding(8), radius)
    (ours,) = ShiftVariance(srt)(images)
    views = torch.stack([maps[0] for maps in aligned_maps(srt.extract, images, srt.shifts, radius=radius)])
    literal = (views - views.mean(0)).square().mean(0).sum(1, keepdim=True)
    assert torch.allclose(ours, literal, atol=1e-12) and ours.shape == (2, 1, *grid)


def test_without_shifts_nothing_varies_and_all_is_trusted():
    images = torch.randn(1, 3, 16, 24)
    srt = StochasticResonance(PatchEmbedding(8, dtype=torch.float32), 0)
    (variance,) = ShiftVariance(srt)(images)
    assert torch.equal(variance, torch.zeros(1, 1, 2, 3))
    assert torch.equal(confidence(variance), torch.ones(1, 1, 2, 3))
    assert torch.equal(ConfidentResonance(srt)(images)[0], srt(images)[0])


def test_confidence_is_a_half_at_the_median_and_falls_with_variance():
    weights = confidence(torch.tensor([[[[0.0, 1.0, 2.0, 4.0, 6.0]]]]))
    assert torch.allclose(weights, torch.tensor([[[[1, 2 / 3, 1 / 2, 1 / 3, 1 / 4]]]]))


def test_an_uncertain_token_leans_on_its_trusted_neighbours():
    features, weight = torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    features[0, 0, 1, 1], weight[0, 0, 1, 1] = 9.0, 0.25
    ours = lean_on_neighbours(features, weight)
    around = 9 * 0.25 / 8.25
    assert ours[0, 0, 1, 1].item() == pytest.approx(0.25 * 9 + 0.75 * around)
    ours[0, 0, 1, 1] = 0
    assert torch.equal(ours, torch.zeros(1, 1, 3, 3))
