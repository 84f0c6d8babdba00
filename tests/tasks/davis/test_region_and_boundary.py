"""J and F of masks: bit for bit the literal definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.tasks.davis.region_and_boundary import (
    boundary_accuracy,
    boundary_tolerance,
    bounding_box,
    region_similarity,
)
from srt_distill.tasks.davis.sequence_scores import score_frames
from srt_distill.tasks.davis.videos import read_mask
from tests.oracles import boundary_accuracy_by_distance, region_similarity_by_pixel

# Long sizes have tolerances of 2 to 6 pixels, so that the rows of the disk differ, and rows of several words
SIZES = [(1, 1), (1, 9), (7, 1), (2, 2), (9, 12), (30, 40), (5, 64), (4, 400), (300, 4), (12, 390), (3, 640)]


@st.composite
def masks(draw: st.DrawFn, size: tuple[int, int]) -> np.ndarray:
    """Rectangles, often touching the border, with single pixels flipped; sometimes empty or full."""
    height, width = size
    mask = np.full(size, draw(st.sampled_from([False, False, False, True])))
    for _ in range(draw(st.integers(0, 3))):
        top, bottom = sorted((draw(st.integers(0, height)), draw(st.integers(0, height))))
        left, right = sorted((draw(st.integers(0, width)), draw(st.integers(0, width))))
        mask[top:bottom, left:right] ^= True
    for _ in range(draw(st.integers(0, 4))):
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] ^= True
    return mask


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Masks to compare, one to three frames; half are near copies, whose outlines lie within each other's tolerance."""
    size = draw(st.sampled_from(SIZES))
    target = [draw(masks(size)) for _ in range(draw(st.integers(1, 3)))]
    predicted = [
        np.roll(mask, (draw(st.integers(-3, 3)), draw(st.integers(-7, 7))), axis=(0, 1))
        if draw(st.booleans())
        else draw(masks(size))
        for mask in target
    ]
    return np.stack(target), np.stack(predicted)


@settings(max_examples=100, deadline=None)
@given(stacks())
def test_boundary_accuracy_equals_the_definition_to_the_bit(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = [boundary_accuracy_by_distance(target, predicted) for target, predicted in zip(*pair)]
    assert boundary_accuracy(*pair).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(stacks())
def test_region_similarity_equals_counting(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = [region_similarity_by_pixel(target, predicted) for target, predicted in zip(*pair)]
    assert region_similarity(*pair).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(9, 12), (20, 150), (4, 400)]))
def test_ids_scored_on_crops_equal_masks_scored_on_frames(seed: int, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    target, predicted = np.zeros((2, 6, *size), dtype=np.uint8)
    for ids in (target, predicted):
        for t in range(6):
            top, left = generator.integers(0, size[0]), generator.integers(0, size[1])
            ids[t, top : top + size[0] // 2, left : left + size[1] // 2] = generator.integers(0, 3)
    j, f = score_frames(target, predicted, [1, 2])
    for k in (1, 2):
        pairs = list(zip(target == k, predicted == k))
        assert f[k - 1].tolist() == [boundary_accuracy_by_distance(*pair) for pair in pairs]
        assert j[k - 1].tolist() == [region_similarity_by_pixel(*pair) for pair in pairs]


def test_edges_at_the_last_row_and_column_are_no_outline() -> None:
    full, corner = np.ones((1, 40, 50), dtype=bool), np.zeros((1, 40, 50), dtype=bool)
    corner[0, -10:, -10:] = True
    assert boundary_accuracy(full, corner) == 0.0  # a full mask has no outline at all
    assert boundary_accuracy(corner, corner) == 1.0
    assert boundary_accuracy(corner, np.flip(corner, (1, 2)).copy()) == 0.0


def test_empty_masks() -> None:
    empty, some = np.zeros((1, 20, 30), dtype=bool), np.zeros((1, 20, 30), dtype=bool)
    some[0, 5:9, 4:8] = True
    assert boundary_accuracy(empty, empty) == region_similarity(empty, empty) == 1.0
    assert boundary_accuracy(empty, some) == boundary_accuracy(some, empty) == region_similarity(empty, some) == 0.0
    assert boundary_accuracy(some, ~empty) == 0.0
    assert boundary_accuracy(~empty, ~empty) == region_similarity(~empty, ~empty) == 1.0


def test_tolerance_is_a_disk_not_a_square() -> None:
    target, predicted = np.zeros((2, 1, 60, 60), dtype=bool)
    target[0, 20, 20] = True  # outline: the pixel and its left, upper and upper left neighbours
    predicted[0, 24, 24] = True
    assert boundary_accuracy(target, predicted, tolerance=4) == 0.0  # the nearest two are 3√2 apart
    assert boundary_accuracy(target, predicted, tolerance=5) == pytest.approx(0.75)  # 3√2, twice 5, and 4√2


def test_tolerance_is_eight_pixels_at_480p() -> None:
    assert boundary_tolerance(480, 854) == 8
    assert boundary_tolerance(300, 400) == 4  # 0.8% of a diagonal of exactly 500


def test_box_is_cut_at_the_image() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    assert mask[bounding_box(mask, margin=1)].size == 0
    mask[0, 3] = mask[4, 11] = True
    assert bounding_box(mask, margin=1) == (slice(0, 6), slice(2, 13))
    assert bounding_box(mask) == (slice(0, 5), slice(3, 12))


@pytest.mark.parametrize("name", ["car-shadow", "libby"])
def test_real_masks_equal_the_definition_to_the_bit(shared_data, name: str) -> None:
    target = read_mask(shared_data / f"DAVIS/Annotations/480p/{name}/00020.png") == 1
    predicted = read_mask(shared_data / f"osvos_davis2017/{name}/00020.png") == 1
    assert boundary_accuracy(target[None], predicted[None])[0] == boundary_accuracy_by_distance(target, predicted)
