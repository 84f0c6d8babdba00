"""The paper's baselines: each is an extractor, and where it does nothing it is the single pass."""

import colorsys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.ensemble import StochasticResonance, mean_maps
from srt_distill.ensemble.baselines import (
    InterpolatedFeatures,
    NaiveEnsemble,
    PooledFeatures,
    PyramidFeatures,
    ShiftedViews,
    interpolate_and_pool,
    jitter_colors,
)
from srt_distill.ensemble.shifts import unshift_tokens
from srt_distill.images import Normalization
from tests.oracles import interpolate_literally

COLOURS = Normalization((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def extract(images):
    """Two maps of patch 4 that are not linear in the image."""
    cells = F.avg_pool2d(images, 4)
    return cells.square(), torch.cat([cells, cells.sin()], 1)


@pytest.fixture
def images(generator):
    return COLOURS(torch.rand(2, 3, 16, 24, generator=generator) * 255)


def close(ours, theirs, atol=1e-6):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def test_one_view_is_the_single_pass_to_the_bit(images):
    for ours, theirs in zip(NaiveEnsemble(extract, COLOURS, num_views=1)(images), extract(images)):
        assert torch.equal(ours, theirs)


def test_views_without_jitter_are_the_single_pass(images):
    close(NaiveEnsemble(extract, COLOURS, num_views=5, strength=0.0)(images), extract(images), atol=1e-5)


def test_a_naive_ensemble_is_the_mean_over_the_views_that_went_through(images):
    seen = []

    def spying(batch):
        seen.append(batch)
        return extract(batch)

    ours = NaiveEnsemble(spying, COLOURS, num_views=4)(images)
    assert len(seen) == 4 and torch.equal(seen[0], images)
    assert not any(torch.allclose(a, b, atol=1e-3) for i, a in enumerate(seen) for b in seen[:i])
    expected = tuple(torch.stack(maps).mean(0) for maps in zip(*map(extract, seen)))
    close(ours, expected)


def test_views_of_a_naive_ensemble_are_the_same_every_time_and_other_under_another_seed(images):
    ensemble = NaiveEnsemble(extract, COLOURS, num_views=3)
    assert torch.equal(ensemble(images)[0], ensemble(images)[0])
    assert not torch.equal(ensemble(images)[0], NaiveEnsemble(extract, COLOURS, num_views=3, seed=1)(images)[0])


def test_jitter_is_what_its_names_say():
    pixel = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1)
    torch.testing.assert_close(jitter_colors(pixel, 0.5, 0.0, 0.0, 0.0), pixel * 1.5)
    turned = jitter_colors(pixel, 0.0, 0.0, 0.0, 0.25).flatten().tolist()
    hue, saturation, value = colorsys.rgb_to_hsv(0.6, 0.3, 0.1)
    assert turned == pytest.approx(colorsys.hsv_to_rgb(hue + 0.25, saturation, value), abs=1e-5)
    assert jitter_colors(pixel, 0.0, 0.0, -1.0, 0.0).flatten().std() < 1e-6, "no saturation is grey"
    assert jitter_colors(pixel, 0.0, 0.0, 0.0, 0.0) is pixel


@given(st.integers(1, 7), st.integers(1, 6), st.sampled_from([2, 3, 8]), st.sampled_from(["bilinear", "bicubic"]))
@settings(max_examples=25, deadline=None)
def test_interpolated_features_are_the_literal_ones(rows, columns, patch, mode):
    generator = torch.Generator().manual_seed(rows * 10 + columns)
    features = torch.randn(1, 2, rows, columns, generator=generator, dtype=torch.float64)
    ours = InterpolatedFeatures(lambda _: (features,), mode)(torch.zeros(1, 3, rows * patch, columns * patch))
    close(ours, (interpolate_literally(features, patch, mode),), atol=1e-10)


def test_half_of_bilinear_is_what_srt_of_radius_3_does_at_patch_16_to_features_that_stay():
    features = torch.randn(1, 2, 6, 7)
    image = torch.zeros(1, 3, 96, 112)
    srt = StochasticResonance(lambda _: (features,), radius=3, subset="grid9")(image)[0]
    half = InterpolatedFeatures(lambda _: (features,), "bilinear", 0.5)(image)[0]
    torch.testing.assert_close(half[..., 1:-1, 1:-1], srt[..., 1:-1, 1:-1])
    close(InterpolatedFeatures(lambda _: (features,), "bilinear", 0.0)(image), (features,))


def test_interpolation_takes_from_the_neighbours_and_keeps_constants():
    matrix = interpolate_and_pool(5, 16, "bilinear")
    assert matrix[2].tolist() == pytest.approx([0, 0.125, 0.75, 0.125, 0])
    torch.testing.assert_close(interpolate_and_pool(5, 16, "bicubic").sum(1), torch.ones(5, dtype=torch.float64))


def test_pooling_onto_the_grid_there_is_changes_nothing_and_onto_a_coarser_one_averages(images):
    close(PooledFeatures(extract, 4)(images), extract(images))
    (ours, _), (fine, _) = PooledFeatures(extract, 8)(images), extract(images)
    assert ours.shape[-2:] == (2, 3)
    torch.testing.assert_close(ours[0, 0, 0, 0], fine[0, 0, :2, :2].mean())
    with pytest.raises(ValueError, match="tokens of 4 pixels do not tile cells of 6"):
        PooledFeatures(extract, 6)(images)


def test_shifted_views_moved_back_and_averaged_are_srt(images):
    views = ShiftedViews(extract, radius=2)
    maps = views(images)
    assert len(maps) == len(views.shifts) == 25 and views.shifts[-1] == (0, 0)
    assert torch.equal(maps[-1], extract(images)[-1])
    aligned = ((unshift_tokens(features, shift, 4),) for features, shift in zip(maps, views.shifts))
    close(mean_maps(aligned), StochasticResonance(extract, 2)(images)[-1:], atol=1e-5)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="0 views asked for"):
        NaiveEnsemble(extract, COLOURS, num_views=0)
    with pytest.raises(ValueError, match="strength 3.0 is outside"):
        NaiveEnsemble(extract, COLOURS, strength=3.0)


def test_a_pyramid_sets_each_token_beside_its_neighbourhood():
    features = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    (ours,) = PyramidFeatures(lambda _: (features,))(torch.zeros(1, 3, 64, 80))
    close((ours[:, :3],), (features,))
    for row in range(4):
        for column in range(5):
            mean = sum(
                (2 - abs(dy))
                * (2 - abs(dx))
                / 16
                * features[0, :, min(max(row + dy, 0), 3), min(max(column + dx, 0), 4)]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            )
            length = features[0, :, row, column].norm()
            close((ours[0, 3:, row, column],), (mean / mean.norm() * length,))
