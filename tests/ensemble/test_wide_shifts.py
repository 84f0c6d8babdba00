"""Means over shifts of any length against loops over pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.ensemble import PerturbationMean, StochasticResonance, WideShiftMean, whole_patch_shifts
from srt_distill.ensemble.shifts import grid_shifts
from tests.ensemble.test_mean import PatchEmbedding
from tests.oracles import srt_per_pixel, wide_mean_per_pixel


@settings(deadline=None, max_examples=25)
@given(
    shifts=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=4),
    border=st.sampled_from(["counted", "edge", "circular"]),
    grid=st.sampled_from([(3, 3), (3, 5), (4, 3)]),
    seed=st.integers(0, 99),
)
def test_mean_over_any_shifts_equals_the_loop(shifts, border, grid, seed):
    image = np.random.default_rng(seed).normal(size=(3, grid[0] * 4, grid[1] * 4))
    extract = PatchEmbedding(4)
    shifts = ((0, 0), *shifts)
    (ours,) = WideShiftMean(extract, shifts, border)(torch.from_numpy(image)[None])
    literal = wide_mean_per_pixel(extract.on_array, image, shifts, 4, border)
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12


@pytest.mark.parametrize("border", ["edge", "circular"])
def test_below_a_patch_it_is_srt(border):
    images, extract = torch.randn(2, 3, 16, 24, dtype=torch.float64), PatchEmbedding(8)
    (ours,), (srt,) = (
        WideShiftMean(extract, grid_shifts(2), border)(images),
        StochasticResonance(extract, 2, border)(images),
    )
    assert torch.allclose(ours, srt, atol=1e-13)


def test_whole_patches_of_features_that_move_with_the_image_change_nothing():
    images = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    pool = lambda x: (F.avg_pool2d(x, 8), x.mean((2, 3), keepdim=True))  # noqa: E731
    target = WideShiftMean(PerturbationMean(pool), whole_patch_shifts(8, 2))
    grid, whole = target(images)
    assert torch.allclose(grid, pool(images)[0], atol=1e-14)
    assert whole.shape == (1, 3, 1, 1)
    target = StochasticResonance(WideShiftMean(pool, whole_patch_shifts(8)), 0, margin=4)
    assert torch.allclose(target(images)[0], pool(images[..., 4:-4, 4:-4])[0])


def test_whole_patch_shifts():
    assert whole_patch_shifts(16, 0) == ((0, 0),)
    assert len(whole_patch_shifts(16, 1)) == 9 and (-16, 16) in whole_patch_shifts(16)
    with pytest.raises(ValueError, match="-1 patches"):
        whole_patch_shifts(16, -1)


def test_circular_srt_equals_the_loop_and_keeps_the_mean_of_every_view():
    image = np.random.default_rng(0).normal(size=(3, 16, 24))
    extract = PatchEmbedding(8)
    (ours,) = StochasticResonance(extract, 2, "circular")(torch.from_numpy(image)[None])
    assert (
        np.abs(ours[0].numpy() - wide_mean_per_pixel(extract.on_array, image, grid_shifts(2), 8, "circular")).max()
        < 1e-12
    )
    assert np.abs(ours[0].numpy() - srt_per_pixel(extract.on_array, image, grid_shifts(2), 8, "edge")).max() > 1e-3
    pooled = lambda x: tuple(m.mean((2, 3), keepdim=True) for m in extract(x))  # noqa: E731
    (mean_of_outputs,) = StochasticResonance(pooled, 2, "circular")(torch.from_numpy(image)[None])
    assert torch.allclose(ours.mean((2, 3), keepdim=True), mean_of_outputs, atol=1e-13)


def test_shifts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no shift"):
        WideShiftMean(PatchEmbedding(4), ())
    with pytest.raises(ValueError, match="16 pixels leave nothing of an image of 16x24"):
        WideShiftMean(PatchEmbedding(4), ((16, 0),))(torch.zeros(1, 3, 16, 24, dtype=torch.float64))
    with pytest.raises(ValueError, match="in no view"):
        WideShiftMean(PatchEmbedding(4), ((8, 0),))(torch.zeros(1, 3, 16, 24, dtype=torch.float64))
