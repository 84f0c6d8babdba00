"""J and F of video object segmentation over sequences, as the DAVIS-2017 benchmark counts them.

Shape legend: T frames, K objects, H W pixels.

Source: Pont-Tuset et al., "The 2017 DAVIS challenge" (2017), and the semi-supervised protocol of the public
davis2017-evaluation script.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics import Metric

from srt_distill.tasks.davis.region_and_boundary import (
    boundary_accuracy,
    boundary_tolerance,
    bounding_box,
    region_similarity,
)

VOID = 255  # mask value of pixels nobody labelled; counted as background in the semi-supervised task
NUM_DECAY_BINS = 4
CHUNK = 4  # frames scored at a time: enough to keep vector instructions busy, few enough to share a small crop

SCORE_NAMES = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
"""Columns of the official global table, in its order."""


@dataclass(frozen=True)
class Statistics:
    """One object's scores over the frames of its sequence.

    Attributes:
        mean: Average over frames.
        recall: Share of frames above one half.
        decay: Average over the first quarter less average over the last; positive where quality is lost with time.
    """

    mean: float
    recall: float
    decay: float


def summarize(values: Float[np.ndarray, " T"]) -> Statistics:
    """Summarise one score over the frames of a sequence by mean, recall and decay.

    The quarters share their end frames (bins are inclusive), as in the official script. Unlike there, frame numbers are
    not cut to eight bits, so sequences of more than 256 frames are right too.
    """
    edges = (np.round(np.linspace(1, len(values), NUM_DECAY_BINS + 1) + 1e-10) - 1).astype(int)
    first, last = values[edges[0] : edges[1] + 1], values[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(values.mean()), recall=float((values > 0.5).mean()), decay=float(first.mean() - last.mean())
    )


def object_ids(first_mask: UInt8[np.ndarray, "H W"]) -> tuple[int, ...]:
    """List the ids of a sequence's objects: those in its first ground-truth mask, background and void aside.

    Where they are 1 to K without a gap, as in DAVIS, that is what the official script counts. It takes every number up
    to the highest for an object, so that ids with gaps add objects that exist nowhere and score 1.
    """
    return tuple(int(value) for value in np.unique(first_mask) if value not in (0, VOID))


def score_frames(
    target: UInt8[np.ndarray, "T H W"], predicted: UInt8[np.ndarray, "T H W"], ids: Sequence[int]
) -> tuple[Float[np.ndarray, "K T"], Float[np.ndarray, "K T"]]:
    """Score J and F of every object in every frame.

    Args:
        target: Ground-truth ids; void pixels, and objects that are not among `ids`, count as background.
        predicted: Ids to judge. An id that is missing is an empty mask.
        ids: Of the K objects that are scored.

    Raises:
        ValueError: If a prediction holds an id that is not among `ids`.
    """
    foreign = sorted(set(np.flatnonzero(np.bincount(predicted.ravel(), minlength=256))) - {0, *ids})
    if foreign:
        raise ValueError(
            f"predicted masks hold object id {foreign[0]}, but the first ground-truth mask has the ids "
            f"{', '.join(map(str, ids)) or 'of no object'}; predict only objects of the first mask"
        )
    j, f = np.empty((len(ids), len(target))), np.empty((len(ids), len(target)))
    tolerance = boundary_tolerance(*target.shape[1:])
    for start in range(0, len(target), CHUNK):
        frames = slice(start, start + CHUNK)
        labelled = np.bitwise_or.reduce(target[frames]) | np.bitwise_or.reduce(predicted[frames])
        rows, columns = bounding_box(labelled, margin=1)
        truth, guess = (np.ascontiguousarray(values[frames, rows, columns]) for values in (target, predicted))
        for k, object_id in enumerate(ids):
            pair = truth == object_id, guess == object_id
            j[k, frames], f[k, frames] = region_similarity(*pair), boundary_accuracy(*pair, tolerance)
    return j, f


def score_sequence(
    target: UInt8[np.ndarray, "T H W"], predicted: UInt8[np.ndarray, "T H W"]
) -> dict[int, tuple[Statistics, Statistics]]:
    """Score J and F of every object of a sequence, semi-supervised: the first and the last frame are not scored.

    Args:
        target: Ground-truth ids of all frames.
        predicted: Predicted ids of all frames.

    Returns:
        A pair (J, F) by object id, in the order of ids.

    Raises:
        ValueError: If there are fewer than three frames, or a predicted id that the first ground-truth mask lacks.
    """
    if len(target) < 3:
        raise ValueError(
            f"a sequence of {len(target)} frames has none left to score: the first and the last are dropped; "
            "give at least 3 frames"
        )
    ids = object_ids(target[0])
    j, f = score_frames(target[1:-1], predicted[1:-1], ids)
    return {k: (summarize(j_k), summarize(f_k)) for k, j_k, f_k in zip(ids, j, f, strict=True)}


def pool(objects: list[tuple[Statistics, Statistics]]) -> dict[str, float]:
    """Average over all objects of all sequences, each object weighing the same: the official global scores.

    Args:
        objects: Pairs (J, F); nan everywhere where there are none.
    """
    rows = [(j.mean, j.recall, j.decay, f.mean, f.recall, f.decay) for j, f in objects]
    averages = np.mean(rows, axis=0).tolist() if rows else [math.nan] * 6
    return dict(zip(SCORE_NAMES, [(averages[0] + averages[3]) / 2, *averages], strict=True))


class VideoObjectSegmentationMetric(Metric):
    """J&F over sequences; `update` takes one whole sequence a call, `compute` gives the official global scores.

    Sequences may be spread over processes: the state is a sum over objects.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    totals: Tensor
    num_objects: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(6, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_objects", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: UInt8[Tensor, "T H W"], target: UInt8[Tensor, "T H W"]) -> None:
        """Add the objects of one sequence (ids of all its frames, the first included)."""
        for j, f in score_sequence(target.cpu().numpy(), preds.cpu().numpy()).values():
            row = (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
            self.totals += torch.tensor(row, dtype=torch.float64, device=self.totals.device)
            self.num_objects += 1

    def compute(self) -> dict[str, Tensor]:
        """Give scores under their official names; nan before the first object."""
        averages = self.totals / self.num_objects
        return dict(zip(SCORE_NAMES, [(averages[0] + averages[3]) / 2, *averages], strict=True))
