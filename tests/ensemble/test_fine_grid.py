"""SRT on fine grids against a literal average at pixel resolution, and its laws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.fine_grid import FineResonance, axis_matrix
from srt_distill.ensemble.shifts import grid_shifts, subset_shifts
from tests.ensemble.test_mean import BORDERS, PatchEmbedding
from tests.oracles import shifts_per_pixel


def mean_of(border):
    def statistic(values, present):
        count = present.sum(0) if border == "zeros_counted" else len(values)
        return values.sum(0) / count

    return statistic


@settings(deadline=None, max_examples=12)
@given(
    patch=st.sampled_from([4, 6, 8]),
    rows=st.integers(1, 2),
    columns=st.integers(2, 3),
    radius=st.integers(0, 2),
    border=st.sampled_from(BORDERS),
    data=st.data(),
)
def test_fine_grid_equals_the_average_at_pixel_resolution(patch, rows, columns, radius, border, data):
    scale = data.draw(st.sampled_from([s for s in range(1, patch + 1) if patch % s == 0]))
    image = np.random.default_rng(radius).normal(size=(3, rows * patch, columns * patch))
    extract = PatchEmbedding(patch)
    fine = FineResonance(StochasticResonance(extract, radius, border), scale, rows_per_band=3)
    literal = shifts_per_pixel(extract.on_array, image, fine.srt.shifts, patch, border, mean_of(border), scale)
    images = torch.from_numpy(image)[None]
    assert np.abs(fine(images)[0][0].numpy() - literal).max() <= 1e-12

    bands = [band[0] for band in fine.bands(images)]
    assert max(band.shape[-2] for band in bands) <= 3
    assert np.abs(torch.cat(bands, -2)[0].numpy() - literal).max() <= 1e-12


@pytest.mark.parametrize("border", BORDERS)
def test_pooling_the_pixels_of_a_token_gives_srt(border):
    images = torch.randn(2, 3, 24, 32, dtype=torch.float64)
    srt = StochasticResonance(PatchEmbedding(8, num_layers=2), 3, border, views_per_batch=5)
    for fine, coarse in zip(FineResonance(srt, 8)(images), srt(images)):
        assert fine.shape[-2:] == (24, 32)
        assert torch.allclose(F.avg_pool2d(fine, 8), coarse, atol=1e-13)


def test_radius_zero_repeats_the_single_pass():
    images = torch.randn(1, 3, 16, 24)
    extract = PatchEmbedding(8, dtype=torch.float32)
    fine = FineResonance(StochasticResonance(extract, 0), 4)(images)[0]
    assert torch.equal(fine, F.interpolate(extract(images)[0], scale_factor=4, mode="nearest"))


def test_parts_of_the_grid_and_margins_hold_on_fine_grids():
    large = torch.randn(1, 3, 16 + 4, 24 + 4, dtype=torch.float64)
    srt = StochasticResonance(PatchEmbedding(8), 2, margin=2, subset="grid9")
    fine = FineResonance(srt, 2)
    assert torch.allclose(F.avg_pool2d(fine(large)[0], 2), srt(large)[0], atol=1e-13)
    assert torch.equal(fine(large)[0], fine(large, subset_shifts(2, "grid9"))[0])


def test_layers_of_different_strides_share_the_bands():
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    fine, coarse = PatchEmbedding(8), PatchEmbedding(16)
    both = FineResonance(StochasticResonance(lambda x: (*fine(x), *coarse(x)), 1), 2, rows_per_band=2)
    bands = list(both.bands(images))
    assert [tuple(len(layer[0, 0]) for layer in band) for band in bands] == [(2, 1)] * 4
    for layer, whole in enumerate(both(images)):
        assert torch.allclose(torch.cat([band[layer] for band in bands], -2), whole, atol=1e-13)


@given(shift=st.integers(-7, 7), scale=st.sampled_from([1, 2, 4, 8]), num_tokens=st.integers(1, 5))
def test_every_row_of_the_matrix_is_an_average_of_at_most_two_tokens(shift, scale, num_tokens):
    matrix = axis_matrix(shift, num_tokens, 8, scale)
    assert torch.allclose(matrix.sum(1), torch.ones(num_tokens * scale, dtype=torch.float64))
    assert (matrix > 0).sum(1).max() <= 2


@pytest.mark.parametrize(
    ("scale", "says"), [(3, "scale 3 does not divide the patch side 8; use one of 1, 2, 4, 8"), (0, "scale 0")]
)
def test_impossible_scales_are_refused(scale, says):
    with pytest.raises(ValueError, match=says):
        FineResonance(StochasticResonance(PatchEmbedding(8), 1), scale)(torch.zeros(1, 3, 16, 16).double())


def test_one_token_for_the_whole_image_is_refused():
    with pytest.raises(ValueError, match="one token for the whole image"):
        FineResonance(StochasticResonance(lambda x: (x.mean((2, 3), keepdim=True),), 1), 2)(torch.zeros(1, 3, 16, 16))


def test_full_resolution_is_made_band_by_band():
    fine = FineResonance(StochasticResonance(PatchEmbedding(16, dtype=torch.float32), 1), 16, rows_per_band=32)
    shapes = [band[0].shape for band in fine.bands(torch.randn(1, 3, 96, 64))]
    assert shapes == [(1, 3, 32, 64)] * 3
    assert len(grid_shifts(1)) == len(fine.srt.extract.batch_sizes)
