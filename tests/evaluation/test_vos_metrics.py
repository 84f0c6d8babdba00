"""J and F: bit for bit the literal definition, and the published numbers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.evaluation.davis import score_davis
from srt_distill.evaluation.davis_videos import read_mask
from srt_distill.evaluation.vos_metrics import (
    SCORE_NAMES,
    VOID,
    VideoObjectSegmentationMetric,
    boundary_accuracy,
    boundary_map,
    boundary_tolerance,
    count_objects,
    pool,
    region_similarity,
    score_frames,
    score_sequence,
    summarize,
)
from tests.oracles import boundary_accuracy_by_distance, boundary_by_pixel, region_similarity_by_pixel

# the long ones have tolerances of 3 and 4 pixels, so that runs and rows of the disk differ
SIZES = [(1, 1), (1, 9), (7, 1), (2, 2), (9, 12), (30, 40), (5, 400), (300, 4), (24, 390)]


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
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.sampled_from(SIZES))
    target = draw(masks(size))
    if draw(st.booleans()):  # a near copy, so that outlines lie within the tolerance of each other
        dy, dx = draw(st.integers(-2, 2)), draw(st.integers(-5, 5))
        return target, np.roll(target, (dy, dx), axis=(0, 1))
    return target, draw(masks(size))


@settings(max_examples=150, deadline=None)
@given(mask_pairs())
def test_boundary_accuracy_equals_the_definition_to_the_bit(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert boundary_accuracy(*pair) == boundary_accuracy_by_distance(*pair)


@settings(max_examples=60, deadline=None)
@given(mask_pairs())
def test_region_similarity_equals_counting(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert region_similarity(*pair) == region_similarity_by_pixel(*pair)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SIZES).flatmap(masks))
def test_boundary_map_equals_the_pixel_rule(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(boundary_map(mask), boundary_by_pixel(mask))


def test_boundary_map_at_the_last_row_and_column() -> None:
    full = np.ones((4, 5), dtype=bool)
    assert not boundary_map(full).any()
    corner = np.zeros((4, 5), dtype=bool)
    corner[3, 4] = True
    np.testing.assert_array_equal(np.argwhere(boundary_map(corner)), [[2, 3], [2, 4], [3, 3]])


def test_boundary_accuracy_of_empty_masks() -> None:
    empty, some = np.zeros((20, 30), dtype=bool), np.zeros((20, 30), dtype=bool)
    some[5:9, 4:8] = True
    assert boundary_accuracy(empty, empty) == region_similarity(empty, empty) == 1.0
    assert boundary_accuracy(empty, some) == boundary_accuracy(some, empty) == region_similarity(empty, some) == 0.0
    assert boundary_accuracy(some, ~empty) == 0.0  # a full mask has no outline
    assert boundary_accuracy(~empty, ~empty) == 1.0


def test_tolerance_is_eight_pixels_at_480p() -> None:
    assert boundary_tolerance(480, 854) == 8
    assert boundary_tolerance(300, 400) == 4  # 0.8% of a diagonal of exactly 500


def test_real_masks_equal_the_definition_to_the_bit(shared_data) -> None:
    for name in ("car-shadow", "libby"):
        target = read_mask(shared_data / f"DAVIS/Annotations/480p/{name}/00020.png") == 1
        predicted = read_mask(shared_data / f"osvos_davis2017/{name}/00020.png") == 1
        assert boundary_accuracy(target, predicted) == boundary_accuracy_by_distance(target, predicted)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_osvos_scores_are_the_published_ones(shared_data, num_processes: int) -> None:
    published = json.loads((shared_data / "osvos_davis2017" / "official_scores.json").read_text())
    result = score_davis(shared_data / "osvos_davis2017", shared_data / "DAVIS", num_processes=num_processes)
    ours = {
        f"{sequence.name}_{item.object_id}": {"J": f"{item.j.mean:.4f}", "F": f"{item.f.mean:.4f}"}
        for sequence in result.sequences
        for item in sequence.objects
    }
    assert ours == published


def test_statistics_by_hand() -> None:
    values = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    summary = summarize(values)  # edges at frames 1, 3, 5, 6, 8 (2.75, 4.5 and 6.25 rounded), ends shared
    assert summary.mean == pytest.approx(0.55)
    assert summary.recall == 0.5  # a frame at exactly one half does not count
    assert summary.decay == pytest.approx(np.mean([0.9, 0.8, 0.7]) - np.mean([0.4, 0.3, 0.2]))
    alone = summarize(np.array([0.25]))
    assert (alone.mean, alone.recall, alone.decay) == (0.25, 0.0, 0.0)


def test_decay_of_a_long_sequence_looks_at_its_end() -> None:
    values = np.ones(600)
    values[450:] = 0.0
    assert summarize(values).decay == pytest.approx(1.0, abs=0.01)


def blank(num_frames: int) -> np.ndarray:
    return np.zeros((num_frames, 24, 32), dtype=np.uint8)


def test_first_and_last_frame_are_not_scored() -> None:
    target = blank(5)
    target[:, 4:12, 4:12] = 1
    predicted = target.copy()
    predicted[0], predicted[-1] = 0, 0
    ((j, f),) = score_sequence(target, predicted)
    assert (j.mean, f.mean) == (1.0, 1.0)
    predicted[1] = 0
    ((j, f),) = score_sequence(target, predicted)
    assert (j.mean, f.mean) == pytest.approx((2 / 3, 2 / 3))


def test_void_counts_as_background() -> None:
    target = blank(4)
    target[:, 4:12, 4:12] = 1
    clean = score_sequence(target, target)
    target[:, 14:20, 14:20] = VOID
    assert count_objects(target[0]) == 1
    assert score_sequence(target, np.where(target == VOID, 0, target)) == clean


def test_a_missing_object_is_an_empty_mask() -> None:
    target = blank(4)
    target[:, 4:12, 4:12], target[:, 14:20, 14:20] = 1, 3
    predicted = np.where(target == 3, 0, target)
    scores = [(j.mean, f.mean) for j, f in score_sequence(target, predicted)]
    assert scores == [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0)]  # id 2 is empty in both


def test_an_object_the_first_mask_lacks_is_refused() -> None:
    target, predicted = blank(4), blank(4)
    target[:, 4:12, 4:12], predicted[2, 4:12, 4:12] = 1, 2
    with pytest.raises(ValueError, match="object id 2, but the first ground-truth mask has ids up to 1"):
        score_sequence(target, predicted)
    with pytest.raises(ValueError, match="sequence of 2 frames"):
        score_sequence(target[:2], target[:2])


def test_scores_by_frame_have_objects_in_order() -> None:
    target = blank(3)
    target[:, 4:12, 4:12], target[1:, 14:20, 14:20] = 1, 2
    predicted = target.copy()
    predicted[2][predicted[2] == 2] = 0
    j, f = score_frames(target, predicted, 2)
    assert j.tolist() == f.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]


def test_metric_pools_objects_over_sequences(generator: torch.Generator) -> None:
    sequences = [torch.randint(0, ids + 1, (2, 6, 12, 15), generator=generator).to(torch.uint8) for ids in (1, 4)]
    for pair in sequences:
        pair[1, 0, 0, 0] = pair[1, 0].max()
    metric = VideoObjectSegmentationMetric()
    objects = []
    for preds, target in sequences:
        metric.update(preds, target)
        objects += score_sequence(target.numpy(), preds.numpy())
    assert len(objects) == 5
    computed = metric.compute()
    assert tuple(computed) == SCORE_NAMES
    assert {name: value.item() for name, value in computed.items()} == pytest.approx(pool(objects), abs=1e-12)
    metric.reset()
    assert all(value.isnan() for value in metric.compute().values())


def test_global_scores_weigh_objects_not_sequences() -> None:
    good, bad = summarize(np.full(4, 1.0)), summarize(np.full(4, 0.0))
    scores = pool([(good, good), (bad, good), (bad, good)])
    assert scores["J-Mean"] == pytest.approx(1 / 3)
    assert scores["F-Recall"] == 1.0
    assert scores["J&F-Mean"] == pytest.approx(2 / 3)
