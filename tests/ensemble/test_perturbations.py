"""Averages over flips against loops, and their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.ensemble import HORIZONTAL_FLIP, Perturbation, PerturbationMean, StochasticResonance
from tests.ensemble.test_mean import PatchEmbedding
from tests.oracles import flip_mean_per_pixel


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_flip_mean_equals_the_loop(rows, columns, seed):
    image = np.random.default_rng(seed).normal(size=(3, rows * 8, columns * 8))
    extract = PatchEmbedding(8)
    (ours,) = PerturbationMean(extract)(torch.from_numpy(image)[None])
    assert np.abs(ours[0].numpy() - flip_mean_per_pixel(extract.on_array, image)).max() <= 1e-14
    assert extract.batch_sizes[:2] == [1, 1]


def test_the_flip_is_its_own_inverse_on_images_and_maps():
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(HORIZONTAL_FLIP.undo(HORIZONTAL_FLIP.transform(images), (8, 12)), images)
    assert not torch.equal(HORIZONTAL_FLIP.transform(images), images)


def test_features_that_move_with_the_image_are_a_fixed_point():
    images = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    pool = lambda x: (torch.nn.functional.avg_pool2d(x, 8),)  # noqa: E731
    assert torch.allclose(PerturbationMean(pool)(images)[0], pool(images)[0], atol=1e-15)


@pytest.mark.parametrize("num", [0, 1])
def test_mirrored_images_have_mirrored_features(num):
    images = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    extract = PerturbationMean(PatchEmbedding(8, num_layers=2))
    assert torch.allclose(extract(images.flip(-1))[num], extract(images)[num].flip(-1), atol=1e-14)


def test_flips_and_shifts_go_together():
    images = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    extract = PatchEmbedding(8)
    both = StochasticResonance(PerturbationMean(extract), 1)(images)[0]
    assert len(extract.batch_sizes) == 18
    swapped = PerturbationMean(StochasticResonance(extract, 1))(images)[0]
    assert torch.allclose(both, swapped, atol=1e-13)  # the grid is symmetric, so the order does not matter


def test_half_precision_maps_are_averaged_in_fp32_and_other_pairs_are_taken():
    images = torch.randn(1, 3, 16, 24)
    upside_down = Perturbation(lambda x: x.flip(-2), lambda maps, _: maps.flip(-2))
    extract = PatchEmbedding(8, dtype=torch.float32)
    mean = PerturbationMean(lambda x: tuple(m.bfloat16() for m in extract(x)), (HORIZONTAL_FLIP, upside_down))
    exact = (extract(images)[0] + extract(images.flip(-1))[0].flip(-1) + extract(images.flip(-2))[0].flip(-2)) / 3
    assert mean(images)[0].dtype == torch.float32
    assert (mean(images)[0] - exact).abs().max() < 4e-3
