"""Which shifts, and shifting token maps back."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.ensemble.shifts import (
    draw_shifts,
    grid_shifts,
    lattice_shifts,
    pad_images,
    slice_view,
    subset_shifts,
    unshift_tokens,
)


@pytest.mark.parametrize("radius", [0, 1, 3, 7])
def test_grid_has_every_shift_once(radius):
    shifts = grid_shifts(radius)
    assert len(set(shifts)) == len(shifts) == (2 * radius + 1) ** 2
    assert max(abs(v) for shift in shifts for v in shift) == radius


def test_reference_grid_counts_the_identity_twice():
    counts = Counter(grid_shifts(3, "reference"))
    assert sum(counts.values()) == 50
    assert counts[(0, 0)] == 2


def test_negative_radius_is_refused():
    with pytest.raises(ValueError, match="shift radius -1 is negative"):
        grid_shifts(-1)


@given(radius=st.integers(1, 5), data=st.data())
def test_drawn_shifts_are_distinct_and_on_the_grid(radius, data):
    num = data.draw(st.integers(1, (2 * radius + 1) ** 2))
    seed = data.draw(st.integers(0, 2**31))
    shifts = draw_shifts(radius, num, torch.Generator().manual_seed(seed))
    assert len(set(shifts)) == num
    assert set(shifts) <= set(grid_shifts(radius))
    assert shifts == draw_shifts(radius, num, torch.Generator().manual_seed(seed))


def test_drawn_shifts_are_uniform_over_the_grid():
    draws = Counter()
    generator = torch.Generator().manual_seed(1)
    for _ in range(4900):
        draws.update(draw_shifts(3, 4, generator))
    expected = 4900 * 4 / 49
    chi_squared = sum((draws[s] - expected) ** 2 / expected for s in grid_shifts(3))
    assert chi_squared < 93  # p < 1e-4 with 48 degrees of freedom


@pytest.mark.parametrize("num", [0, 50])
def test_impossible_number_of_shifts_is_refused(num):
    with pytest.raises(ValueError, match="choose 1 to 49"):
        draw_shifts(3, num, torch.Generator())


def test_view_moves_the_picture_down_and_right():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 3] = 1
    view = slice_view(pad_images(image, 3, "edge"), (1, 2), 3, (8, 8))
    assert view[0, 0].nonzero().tolist() == [[3, 5]]
    assert view.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()


def test_views_share_the_padded_memory():
    padded = pad_images(torch.rand(1, 3, 16, 16), 3, "zeros")
    view = slice_view(padded, (-3, 2), 3, (16, 16))
    assert view.untyped_storage().data_ptr() == padded.untyped_storage().data_ptr()


@given(dy=st.integers(-7, 7), dx=st.integers(-7, 7))
def test_constant_maps_are_fixed_points_with_edge_borders(dy, dx):
    features = torch.full((1, 2, 3, 5), 0.7, dtype=torch.float64)
    assert torch.allclose(unshift_tokens(features, (dy, dx), 8, "edge"), features, atol=1e-15)


def test_interior_weights_are_the_closed_form():
    features = torch.randn(1, 1, 6, 1, dtype=torch.float64)
    out = unshift_tokens(features, (3, 0), 16, "edge")
    assert torch.allclose(out[0, 0, :-1], 13 / 16 * features[0, 0, :-1] + 3 / 16 * features[0, 0, 1:])
    assert torch.equal(out[0, 0, -1], features[0, 0, -1])


def test_the_authors_zero_borders_attenuate_edges_and_corners():
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    mean = sum(unshift_tokens(ones, s, 16, "reference") for s in grid_shifts(3, "reference")) / 50
    assert mean[0, 0, 1, 1].item() == pytest.approx(1, abs=1e-12)
    assert mean[0, 0, 0, 1].item() == pytest.approx(0.948, abs=5e-4)
    assert mean[0, 0, 0, 0].item() == pytest.approx(0.898, abs=5e-4)


def test_shift_of_a_whole_patch_is_refused():
    with pytest.raises(ValueError, match=r"not smaller than the patch side 8.*at most 7"):
        unshift_tokens(torch.zeros(1, 1, 2, 2), (8, 0), 8)


@pytest.mark.parametrize(("radius", "num"), [(1, 2), (3, 4), (3, 7), (2, 25), (4, 10)])
def test_every_lattice_point_visits_every_shift_once(radius, num):
    side = 2 * radius + 1
    offsets = [(y, x) for y in range(side) for x in range(side)]
    draws = [lattice_shifts(radius, num, offset) for offset in offsets]
    for point in range(num):
        assert sorted(draw[point] for draw in draws) == list(grid_shifts(radius))


@pytest.mark.parametrize(("subset", "num"), [("full", 49), ("checkerboard", 25), ("grid16", 16), ("grid9", 9)])
def test_subsets_of_radius_three(subset, num):
    assert len(subset_shifts(3, subset)) == num
    assert subset_shifts(0, subset) == ((0, 0),)


@given(radius=st.integers(2, 7), subset=st.sampled_from(["full", "checkerboard", "grid16", "grid9"]))
def test_subsets_are_distinct_shifts_of_the_grid_symmetric_in_every_direction(radius, subset):
    shifts = subset_shifts(radius, subset)
    assert len(set(shifts)) == len(shifts)
    assert set(shifts) <= set(grid_shifts(radius))
    assert list(shifts) == sorted(shifts)
    for mirrored in ([(-y, x) for y, x in shifts], [(y, -x) for y, x in shifts], [(x, y) for y, x in shifts]):
        assert set(mirrored) == set(shifts)
    assert max(max(shift) for shift in shifts) == radius


def test_named_grids_of_radius_three_are_these():
    assert {y for y, _ in subset_shifts(3, "grid16")} == {-3, -1, 1, 3}
    assert {y for y, _ in subset_shifts(3, "grid9")} == {-3, 0, 3}
    assert (0, 1) not in subset_shifts(3, "checkerboard")
    assert (1, 1) in subset_shifts(3, "checkerboard")


def test_subset_with_more_offsets_than_the_radius_has_is_refused():
    with pytest.raises(ValueError, match="'grid16' takes 4 offsets an axis, radius 1 has 3; use 'full'"):
        subset_shifts(1, "grid16")
