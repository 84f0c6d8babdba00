"""SRT against a literal per-pixel loop, and its laws."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import draw_shifts, grid_shifts, subset_shifts
from tests.oracles import srt_per_pixel

BORDERS = ["edge", "zeros", "zeros_counted", "reference"]


class PatchEmbedding:
    """A non-linear extractor of one linear patch embedding, with one map a `depths` entry."""

    def __init__(self, patch, channels=3, dtype=torch.float64, num_layers=1):
        generator = torch.Generator().manual_seed(patch)
        shape = (num_layers, channels, 3, patch, patch)
        self.weights = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        self.patch = patch
        self.batch_sizes = []

    def __call__(self, images):
        self.batch_sizes.append(len(images))
        return tuple(torch.tanh(F.conv2d(images, w, stride=self.patch)) for w in self.weights)

    def on_array(self, image):
        return self(torch.from_numpy(image)[None])[0][0].numpy()


@settings(deadline=None, max_examples=12)
@given(
    patch=st.sampled_from([8, 14, 16]),
    grid=st.sampled_from([(1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]),
    radius=st.integers(0, 2),
    border=st.sampled_from(BORDERS),
    seed=st.integers(0, 1000),
)
def test_closed_form_equals_the_per_pixel_loop(patch, grid, radius, border, seed):
    rows, columns = grid
    image = np.random.default_rng(seed).normal(size=(3, rows * patch, columns * patch))
    extract = PatchEmbedding(patch)
    (ours,) = StochasticResonance(extract, radius, border)(torch.from_numpy(image)[None])
    literal = srt_per_pixel(extract.on_array, image, grid_shifts(radius, border), patch, border)
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12

    single = PatchEmbedding(patch, dtype=torch.float32)
    (ours32,) = StochasticResonance(single, radius, border)(torch.from_numpy(image)[None].float())
    assert np.abs(ours32[0].double().numpy() - literal).max() <= 1e-5


@pytest.mark.parametrize("border", BORDERS)
def test_a_token_for_the_whole_image_is_averaged_and_moved_nowhere(border):
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    seen = []

    def extract(batch):
        seen.append(batch.square().mean((2, 3), keepdim=True))
        return seen[-1], F.avg_pool2d(batch, 16)

    whole, grid = StochasticResonance(extract, 2, border)(images)
    torch.testing.assert_close(whole, torch.stack(seen).mean(0))
    assert grid.shape == (2, 3, 2, 3)


@pytest.mark.parametrize(("patch", "radius"), [(8, 7), (16, 5)])
@pytest.mark.parametrize("border", BORDERS)
def test_large_radius_equals_the_per_pixel_loop(patch, radius, border):
    image = np.random.default_rng(0).normal(size=(3, patch, 2 * patch))
    extract = PatchEmbedding(patch)
    (ours,) = StochasticResonance(extract, radius, border, views_per_batch=5)(torch.from_numpy(image)[None])
    literal = srt_per_pixel(extract.on_array, image, grid_shifts(radius, border), patch, border)
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12


@pytest.mark.parametrize("border", BORDERS)
def test_radius_zero_is_the_single_pass_to_the_bit(border):
    images = torch.randn(2, 3, 32, 48)
    extract = PatchEmbedding(16, dtype=torch.float32, num_layers=2)
    for ours, single in zip(StochasticResonance(extract, 0, border)(images), extract(images)):
        assert torch.equal(ours, single)


@pytest.mark.parametrize("views_per_batch", [1, 4, 100])
def test_batching_views_changes_nothing_but_the_batches(views_per_batch):
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    extract = PatchEmbedding(8, num_layers=2)
    ours = StochasticResonance(extract, 2, views_per_batch=views_per_batch)(images)
    one_by_one = StochasticResonance(PatchEmbedding(8, num_layers=2), 2)(images)
    assert sum(extract.batch_sizes) == 50
    assert max(extract.batch_sizes) == 2 * min(views_per_batch, 25)
    for a, b in zip(ours, one_by_one):
        assert torch.allclose(a, b, atol=1e-13)


def test_constant_image_is_a_fixed_point_with_edge_borders():
    images = torch.full((1, 3, 28, 42), 0.3, dtype=torch.float64)
    extract = PatchEmbedding(14)
    assert torch.allclose(StochasticResonance(extract, 3)(images)[0], extract(images)[0], atol=1e-14)


def test_margin_shows_real_pixels():
    large = torch.randn(1, 3, 16 + 6, 24 + 6, dtype=torch.float64)
    extract = PatchEmbedding(8)
    with_margin = StochasticResonance(extract, 3, margin=3)(large, [(3, -2)])[0]
    moved = extract(large[..., 0:16, 5:29])[0]
    by_hand = srt_per_pixel(lambda _: moved[0].numpy(), np.zeros((3, 16, 24)), [(3, -2)], 8, "edge")
    assert torch.allclose(with_margin[0], torch.from_numpy(by_hand), atol=1e-13)


def test_a_margin_wider_than_the_radius_is_the_same_crop():
    large = torch.randn(1, 3, 16 + 10, 16 + 10, dtype=torch.float64)
    extract = PatchEmbedding(8)
    wide = StochasticResonance(extract, 2, margin=5)(large)[0]
    fitting = StochasticResonance(extract, 2, margin=2)(large[..., 3:-3, 3:-3])[0]
    assert torch.allclose(wide, fitting, atol=1e-14)


def test_half_precision_features_are_averaged_in_fp32():
    images = torch.randn(1, 3, 32, 32)
    extract = PatchEmbedding(16, dtype=torch.float32)
    exact = StochasticResonance(extract, 3)(images)[0]
    rounded = StochasticResonance(lambda x: tuple(m.bfloat16() for m in extract(x)), 3)(images)[0]
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 4e-3


def test_averaging_all_draws_of_one_shift_gives_the_full_grid():
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    srt = StochasticResonance(PatchEmbedding(8), 1)
    singles = [srt(images, [shift])[0] for shift in grid_shifts(1)]
    assert torch.allclose(torch.stack(singles).mean(0), srt(images)[0], atol=1e-14)


def test_hierarchical_strides_are_read_from_the_maps():
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    fine, coarse = PatchEmbedding(8), PatchEmbedding(16)
    both = StochasticResonance(lambda x: (*fine(x), *coarse(x)), 2)(images)
    assert torch.allclose(both[0], StochasticResonance(fine, 2)(images)[0])
    assert torch.allclose(both[1], StochasticResonance(coarse, 2)(images)[0])


def test_radius_as_large_as_the_patch_is_refused():
    with pytest.raises(ValueError, match="not smaller than the patch side 8"):
        StochasticResonance(PatchEmbedding(8), 8)(torch.zeros(1, 3, 16, 16, dtype=torch.float64))


def test_counted_zeros_refuse_sampled_shifts():
    srt = StochasticResonance(PatchEmbedding(8), 3, "zeros_counted")
    shifts = draw_shifts(3, 4, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="needs all 49 shifts"):
        srt(torch.zeros(1, 3, 16, 16, dtype=torch.float64), shifts)


def test_maps_that_do_not_tile_the_image_are_refused():
    with pytest.raises(ValueError, match="does not tile an image of 17x16"):
        StochasticResonance(PatchEmbedding(8), 0)(torch.zeros(1, 3, 17, 16, dtype=torch.float64))


def test_views_per_batch_must_be_positive():
    with pytest.raises(ValueError, match="views_per_batch 0"):
        StochasticResonance(PatchEmbedding(8), views_per_batch=0)


@pytest.mark.parametrize("reason", ["accelerator", "cpu"])
@given(limit=st.integers(1, 30), num_images=st.integers(1, 2))
@settings(deadline=None, max_examples=10)
def test_automatic_batches_back_off_until_they_fit_and_change_nothing(reason, limit, num_images):
    images = torch.randn(num_images, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(limit))
    inner = PatchEmbedding(8, num_layers=2)

    def extract(batch):
        if len(batch) > limit * num_images:
            if reason == "cpu":
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return inner(batch)

    srt = StochasticResonance(extract, 2, views_per_batch="auto")
    for ours, one_by_one in zip(srt(images), StochasticResonance(inner, 2)(images)):
        assert torch.allclose(ours, one_by_one, atol=1e-13)
    size, halvings = 25, 0
    while size > limit:
        size, halvings = (size + 1) // 2, halvings + 1
    assert srt.batches.num_retries == halvings
    assert max(inner.batch_sizes) == size * num_images

    srt(images)
    assert srt.batches.num_retries == halvings, "what fits was forgotten"


def test_one_view_that_does_not_fit_is_an_error_with_a_remedy():
    def extract(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match=r"1 of the shifted views of 2 images of 16x16.*use fewer images"):
        StochasticResonance(extract, 1, views_per_batch="auto")(torch.zeros(2, 3, 16, 16))
    with pytest.raises(torch.OutOfMemoryError, match="use views_per_batch 'auto' or a smaller number"):
        StochasticResonance(extract, 1, views_per_batch=9)(torch.zeros(2, 3, 16, 16))


def test_other_errors_of_the_extractor_are_not_taken_for_want_of_memory():
    def extract(batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        StochasticResonance(extract, 1, views_per_batch="auto")(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(("height", "width", "largest"), [(480, 832, 1), (112, 192, 6), (32, 32, 9)])
def test_automatic_batches_stay_small_on_a_cpu(height, width, largest):
    extract = PatchEmbedding(16, dtype=torch.float32)
    StochasticResonance(extract, 1, views_per_batch="auto")(torch.zeros(1, 3, height, width))
    assert max(extract.batch_sizes) == largest


@pytest.mark.parametrize("subset", ["checkerboard", "grid16", "grid9"])
@pytest.mark.parametrize("border", ["edge", "zeros"])
def test_subsets_equal_the_per_pixel_loop_over_their_shifts(subset, border):
    image = np.random.default_rng(0).normal(size=(3, 16, 24))
    extract = PatchEmbedding(8)
    srt = StochasticResonance(extract, 2, border, subset=subset)
    (ours,) = srt(torch.from_numpy(image)[None])
    assert len(extract.batch_sizes) == len(srt.shifts) < 25
    literal = srt_per_pixel(extract.on_array, image, subset_shifts(2, subset), 8, border)
    assert np.abs(ours[0].numpy() - literal).max() <= 1e-12


def test_borders_of_the_full_grid_refuse_subsets():
    with pytest.raises(ValueError, match="border 'reference' is the authors' average over the full grid"):
        StochasticResonance(PatchEmbedding(8), 3, "reference", subset="grid9")
    srt = StochasticResonance(PatchEmbedding(8), 3, "zeros_counted", subset="grid9")
    with pytest.raises(ValueError, match="needs all 49 shifts of radius 3, not 9"):
        srt(torch.zeros(1, 3, 16, 16, dtype=torch.float64))


def test_of_earlier_views_only_the_mean_is_held():
    """Every map that an extractor gave is gone when the next view is computed, but for the running mean."""
    given, alive = [], []

    def extract(images):
        alive.append(sum(reference() is not None for reference in given))
        features = torch.nn.functional.avg_pool2d(images, 8)
        given.append(weakref.ref(features.untyped_storage()))
        return (features,)

    StochasticResonance(extract, radius=1)(torch.rand(1, 3, 16, 24))
    assert len(given) == 9
    assert max(alive) <= 1  # the first view is the first mean
    assert alive[2:] == [0] * 7
