import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.visualization import pca_projection, pca_rgb
from tests.oracles import pca_colors_by_svd


def make_maps(seed: int, sizes: list[tuple[int, int]], channels: int = 6) -> list[torch.Tensor]:
    """Maps with well separated principal components, so that order and sign are no accident of rounding."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.qr(torch.randn(channels, channels, generator=generator))[0]
    spread = 2.0 ** -torch.arange(channels)
    return [
        torch.einsum("dc,chw->dhw", mixing * spread, torch.randn(channels, *size, generator=generator)) + 3
        for size in sizes
    ]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.tuples(st.integers(8, 20), st.integers(8, 20)), min_size=1, max_size=3),
)
def test_colors_equal_the_svd_of_the_stacked_tokens(seed, sizes):
    maps = make_maps(seed, sizes)
    for ours, theirs in zip(pca_rgb(maps), pca_colors_by_svd([m.numpy() for m in maps])):
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-3)


def test_a_map_at_pixel_resolution_weighs_as_much_as_one_on_the_token_grid():
    coarse, other = make_maps(0, [(6, 6), (6, 6)])
    fine = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    expected, found = pca_projection([coarse, other]), pca_projection([fine, other])
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.components, expected.components, atol=1e-4, rtol=1e-4)


def test_signs_do_not_depend_on_the_order_of_maps_or_on_a_small_change():
    maps = make_maps(1, [(12, 12), (10, 14)])
    components = pca_projection(maps).components
    assert (components.gather(0, components.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(pca_projection(maps[::-1]).components, components, atol=1e-4, rtol=1e-4)
    moved = [m + 1e-4 * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)) for m in maps]
    assert (pca_projection(moved).components * components).sum(0).min() > 0.999


def test_the_same_map_gets_the_same_colors_beside_its_copy_and_in_a_batch():
    first, second = make_maps(2, [(9, 9), (9, 9)])
    alone = pca_rgb([first, second])
    batched = pca_rgb([torch.stack([first, second])])[0]
    assert batched.shape == (2, 3, 9, 9)
    torch.testing.assert_close(batched, torch.stack(alone))
    twice = pca_rgb([first, first])
    assert torch.equal(twice[0], twice[1])


def test_an_outlying_token_does_not_grey_out_the_picture():
    (features,) = make_maps(3, [(20, 20)])
    spiked = features.clone()
    spiked[:, 0, 0] += 20 * features.std()
    colors = pca_rgb([spiked])[0][:, 1:]
    assert colors.min() >= 0 and colors.max() <= 1
    assert colors[0].std() > 0.1


def test_half_precision_features_are_projected_in_single_precision():
    (features,) = make_maps(4, [(16, 16)])
    half = pca_rgb([features.half()])[0]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, pca_rgb([features])[0], atol=0.02, rtol=0)


def test_constant_features_are_black_and_finite():
    assert torch.equal(pca_rgb([torch.ones(4, 5, 5)])[0], torch.zeros(3, 5, 5))


def test_explained_variance_is_the_share_of_the_whole():
    (features,) = make_maps(5, [(30, 30)], channels=4)
    projection = pca_projection([features], num_components=4)
    assert projection.explained.sum() == pytest.approx(1, abs=1e-5)
    assert (projection.explained.diff() < 0).all()


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "no feature map given"),
        ([torch.ones(4, 2, 2), torch.ones(5, 2, 2)], r"maps have \[4, 5\] channels"),
        ([torch.ones(2, 4, 4)], "maps have 2 channels, fewer than the 3"),
        ([torch.full((4, 2, 2), torch.nan)], "not finite"),
    ],
)
def test_maps_that_cannot_share_a_projection_are_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        pca_projection(maps)


def test_a_projection_refuses_maps_of_another_width():
    with pytest.raises(ValueError, match="features have 5 channels, but the projection was fitted on 6"):
        pca_projection(make_maps(6, [(8, 8)]))(torch.ones(5, 2, 2))
