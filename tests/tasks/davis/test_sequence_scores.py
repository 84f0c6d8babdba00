"""J and F over sequences: the published numbers, the statistics, and what is scored at all."""

import json

import numpy as np
import pytest
import torch

from srt_distill.tasks.davis import score_masks
from srt_distill.tasks.davis.sequence_scores import (
    SCORE_NAMES,
    VOID,
    VideoObjectSegmentationMetric,
    object_ids,
    pool,
    score_frames,
    score_sequence,
    summarize,
)


def test_osvos_scores_are_the_published_ones(shared_data) -> None:
    published = json.loads((shared_data / "osvos_davis2017" / "official_scores.json").read_text())
    result = score_masks(shared_data / "osvos_davis2017", shared_data / "DAVIS")
    ours = {
        f"{sequence}_{object_id}": {"J": f"{j.mean:.4f}", "F": f"{f.mean:.4f}"}
        for sequence, objects in result.items()
        for object_id, (j, f) in objects.items()
    }
    assert ours == published


def test_sequences_scored_in_parallel_score_the_same(tiny_davis) -> None:
    predictions = tiny_davis / "Annotations" / "480p"
    assert score_masks(predictions, tiny_davis, num_processes=2) == score_masks(predictions, tiny_davis)


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
    ((j, f),) = score_sequence(target, predicted).values()
    assert (j.mean, f.mean) == (1.0, 1.0)
    predicted[1] = 0
    ((j, f),) = score_sequence(target, predicted).values()
    assert (j.mean, f.mean) == pytest.approx((2 / 3, 2 / 3))


def test_void_counts_as_background() -> None:
    target = blank(4)
    target[:, 4:12, 4:12] = 1
    clean = score_sequence(target, target)
    target[:, 14:20, 14:20] = VOID
    assert object_ids(target[0]) == (1,)
    assert score_sequence(target, np.where(target == VOID, 0, target)) == clean


def test_a_missing_object_is_an_empty_mask() -> None:
    target = blank(4)
    target[:, 4:12, 4:12], target[:, 14:20, 14:20] = 1, 3
    predicted = np.where(target == 3, 0, target)
    scores = {k: (j.mean, f.mean) for k, (j, f) in score_sequence(target, predicted).items()}
    assert scores == {1: (1.0, 1.0), 3: (0.0, 0.0)}  # there is no object 2


def test_an_object_the_first_mask_lacks_is_refused() -> None:
    target, predicted = blank(4), blank(4)
    target[:, 4:12, 4:12], predicted[2, 4:12, 4:12] = 1, 2
    with pytest.raises(ValueError, match="object id 2, but the first ground-truth mask has the ids 1"):
        score_sequence(target, predicted)
    with pytest.raises(ValueError, match="sequence of 2 frames"):
        score_sequence(target[:2], target[:2])


def test_scores_by_frame_have_objects_in_order() -> None:
    target = blank(3)
    target[:, 4:12, 4:12], target[1:, 14:20, 14:20] = 1, 2
    predicted = target.copy()
    predicted[2][predicted[2] == 2] = 0
    j, f = score_frames(target, predicted, (1, 2))
    assert j.tolist() == f.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]


def test_metric_pools_objects_over_sequences(generator: torch.Generator) -> None:
    sequences = [torch.randint(0, ids + 1, (2, 6, 12, 15), generator=generator).to(torch.uint8) for ids in (1, 4)]
    for pair in sequences:
        pair[1, 0, 0, 0] = pair[1, 0].max()
    metric = VideoObjectSegmentationMetric()
    objects = []
    for preds, target in sequences:
        metric.update(preds, target)
        objects += score_sequence(target.numpy(), preds.numpy()).values()
    assert len(objects) == 5
    computed = metric.compute()
    assert tuple(computed) == SCORE_NAMES
    assert {name: value.item() for name, value in computed.items()} == pytest.approx(pool(objects), abs=1e-12)
    metric.reset()
    assert all(value.isnan() for value in metric.compute().values())


def test_the_metric_scores_ids_with_gaps() -> None:
    target = torch.zeros(4, 24, 32, dtype=torch.uint8)
    target[:, 4:12, 4:12], target[:, 14:20, 14:20] = 1, 100
    metric = VideoObjectSegmentationMetric()
    metric.update(torch.where(target == 100, 0, target), target)
    assert metric.compute()["J-Mean"] == 0.5


def test_global_scores_weigh_objects_not_sequences() -> None:
    good, bad = summarize(np.full(4, 1.0)), summarize(np.full(4, 0.0))
    scores = pool([(good, good), (bad, good), (bad, good)])
    assert scores["J-Mean"] == pytest.approx(1 / 3)
    assert scores["F-Recall"] == 1.0
    assert scores["J&F-Mean"] == pytest.approx(2 / 3)
