"""The scale group: undone by area, constants kept, and where there is no change the single pass."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.ensemble import HORIZONTAL_FLIP, PerturbationMean, StochasticResonance, scale_changes
from srt_distill.ensemble.scales import area_weights, change_scale, pool_by_area, resize_to_tokens
from tests.ensemble.test_mean import PatchEmbedding
from tests.oracles import area_weights_by_counting


@given(st.integers(1, 12), st.integers(1, 12))
def test_area_weights_are_counted_pixels(num_given, num_wanted):
    weights = area_weights(num_given, num_wanted)
    assert np.abs(weights.numpy() - area_weights_by_counting(num_given, num_wanted)).max() <= 1e-12
    assert torch.allclose(weights.sum(1), torch.ones(num_wanted, dtype=torch.float64))
    if num_given == num_wanted:
        assert torch.equal(weights, torch.eye(num_given, dtype=torch.float64))


@given(scale=st.floats(0.5, 2), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_constants_come_back_on_the_grid_of_the_original(scale, rows, columns):
    images = torch.full((1, 3, rows * 4, columns * 4), 0.7, dtype=torch.float64)
    change = change_scale(scale, 4)
    changed = change.transform(images)
    assert changed.shape[-2] == 4 * max(1, round(scale * rows)) and changed.shape[-1] % 4 == 0
    undone = change.undo(F.avg_pool2d(changed, 4), (rows, columns))
    assert torch.allclose(undone, images[..., ::4, ::4], atol=1e-12)


def test_a_mean_over_scales_is_the_mean_of_each_scale_undone():
    images, extract = torch.randn(2, 3, 32, 48, dtype=torch.float64), PatchEmbedding(8, num_layers=2)
    changes = scale_changes(3, 8)
    (ours, _) = PerturbationMean(extract, changes)(images)
    literal = extract(images)[0]
    for scale in (0.5**0.5, 2**0.5):
        size = [8 * round(scale * side / 8) for side in (32, 48)]
        maps = extract(F.interpolate(images, size, mode="bicubic", antialias=True))[0]
        down, right = (torch.from_numpy(area_weights_by_counting(s // 8, n)) for s, n in zip(size, (4, 6)))
        literal = literal + torch.einsum("rh,bchw,sw->bcrs", down, maps, right)
    assert torch.allclose(ours, literal / 3, atol=1e-12)


def test_scales_go_with_shifts_and_flips_and_with_a_token_for_the_whole_image():
    images, extract = torch.randn(1, 3, 32, 48, dtype=torch.float64), PatchEmbedding(8)
    both = lambda x: (*extract(x), x.mean((2, 3), keepdim=True))  # noqa: E731
    nested = PerturbationMean(PerturbationMean(both, (HORIZONTAL_FLIP,)), scale_changes(3, 8))
    grid, whole = StochasticResonance(nested, 1)(images)
    assert len(extract.batch_sizes) == 9 * 3 * 2
    assert grid.shape == (1, 3, 4, 6) and whole.shape == (1, 3, 1, 1)
    assert StochasticResonance(nested, 1, margin=4)(images)[0].shape == (1, 3, 3, 5)  # as a training target


def test_no_change_is_the_single_pass_to_the_bit():
    images, extract = torch.randn(1, 3, 32, 48), PatchEmbedding(8, dtype=torch.float32)
    assert scale_changes(1, 8) == ()
    assert torch.equal(PerturbationMean(extract, scale_changes(1, 8))(images)[0], extract(images)[0])
    assert resize_to_tokens(images, 1.01, 8) is images and pool_by_area(images, (32, 48)) is images


def test_scales_are_even_as_ratios():
    extract, seen = PatchEmbedding(2), []
    spy = lambda x: seen.append(x.shape[-1]) or extract(x)  # noqa: E731
    PerturbationMean(spy, scale_changes(5, 2, span=2.0))(torch.zeros(1, 3, 200, 200, dtype=torch.float64))
    assert seen == [200, 100, 142, 282, 400]


@pytest.mark.parametrize(("num", "span", "fault"), [(0, 1.4, "0 scales"), (4, 1.4, "4 scales"), (3, 1.0, "span 1.0")])
def test_scales_that_mean_nothing_are_refused(num, span, fault):
    with pytest.raises(ValueError, match=fault):
        scale_changes(num, 8, span)
