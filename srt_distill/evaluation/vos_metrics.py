"""J and F of video object segmentation, as the DAVIS-2017 benchmark defines them, and their statistics.

Shape legend: T frames, K objects, H W pixels.

J is the region similarity (intersection over union), F the boundary accuracy: the harmonic mean of how much of each
outline lies within a tolerance of the other. F is the costly one. Its fast path rests on two facts. Outlines live in
the box of the two masks, so only that crop is looked at. And a crop of bits is one long integer: a dilation by a disk
is then a few dozen shifts and ORs of whole crops, and counting matched pixels is a population count. All counts are
exact, so the result equals the full-frame definition to the bit.

Source: Perazzi et al., "A benchmark dataset and evaluation methodology for video object segmentation" (2016),
Pont-Tuset et al., "The 2017 DAVIS challenge" (2017), and the semi-supervised protocol of the public
davis2017-evaluation script.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torchmetrics import Metric

BOUNDARY_FRACTION = 0.008  # tolerance of F as a share of the image diagonal (davis2017-evaluation)
VOID = 255  # mask value of pixels nobody labelled; counted as background in the semi-supervised task
NUM_DECAY_BINS = 4

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


def region_similarity(target: Bool[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]) -> float:
    """J: intersection over union of two masks; 1 where both are empty."""
    union = np.count_nonzero(target | predicted)
    return np.count_nonzero(target & predicted) / union if union else 1.0


def boundary_tolerance(height: int, width: int) -> int:
    """Distance in pixels within which an outline pixel counts as found: 0.8% of the diagonal, rounded up."""
    return math.ceil(BOUNDARY_FRACTION * float(np.linalg.norm((height, width))))


def boundary_map(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Outline of a mask: pixels that differ from their right, lower or lower right neighbour.

    A neighbour outside the image repeats the last row or column. That is the official rule for the border (last row:
    right neighbour only; last column: lower neighbour only; last corner: never) in one sentence.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def boundary_accuracy(target: Bool[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]) -> float:
    """F: harmonic mean of the precision and recall of one mask's outline against another's.

    Args:
        target: The ground truth.
        predicted: The mask to judge.

    Returns:
        A number in [0, 1]; 0 where one of the two has no outline, 1 where neither has.
    """
    crop = _box(target | predicted)
    if crop is None:
        return 1.0
    target_outline, predicted_outline = boundary_map(target[crop]), boundary_map(predicted[crop])
    radius = boundary_tolerance(*target.shape)
    stride = target_outline.shape[1] + radius  # empty columns keep a shifted row from running into its neighbour
    target_bits, predicted_bits = _pack(target_outline, stride), _pack(predicted_outline, stride)
    num_target, num_predicted = target_bits.bit_count(), predicted_bits.bit_count()
    if not num_target or not num_predicted:
        return float(num_target == num_predicted)
    precision = (predicted_bits & _dilate(target_bits, radius, stride)).bit_count() / num_predicted
    recall = (target_bits & _dilate(predicted_bits, radius, stride)).bit_count() / num_target
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _box(mask: Bool[np.ndarray, "H W"]) -> tuple[slice, slice] | None:
    """The smallest crop with every true pixel and, inside the image, one false pixel around; None where all are false.

    The ring of false pixels makes the outline of the crop the crop of the outline: upper and left neighbours of the
    mask can be outline themselves, and below and to the right the repeated border is the image's own or false.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    vertical = slice(max(rows[0] - 1, 0), rows[-1] + 2)
    columns = np.flatnonzero(mask[vertical].any(axis=0))
    return vertical, slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _pack(mask: Bool[np.ndarray, "H W"], stride: int) -> int:
    """A mask as one integer whose bit `row * stride + column` is the pixel."""
    rows = np.zeros((mask.shape[0], stride), dtype=bool)
    rows[:, : mask.shape[1]] = mask
    return int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")


def _dilate(bits: int, radius: int, stride: int) -> int:
    """Dilation by the disk dx² + dy² ≤ radius², as the union of one horizontal run a row of the disk.

    Bits between the rows and past the last are left dirty: the caller only looks at pixels.
    """
    dilated, run, half_width = 0, bits, 0
    for dy in range(radius, -1, -1):  # from the tip, where the run is shortest, to the middle
        for dx in range(half_width + 1, math.isqrt(radius**2 - dy**2) + 1):
            run |= bits << dx | bits >> dx
            half_width = dx
        dilated |= run << dy * stride | run >> dy * stride
    return dilated


def summarize(values: Float[np.ndarray, " T"]) -> Statistics:
    """Mean, recall and decay of one score over the frames of a sequence.

    The quarters share their end frames (bins are inclusive), as in the official script. Unlike there, frame numbers are
    not cut to eight bits, so sequences of more than 256 frames are right too.
    """
    edges = (np.round(np.linspace(1, len(values), NUM_DECAY_BINS + 1) + 1e-10) - 1).astype(int)
    first, last = values[edges[0] : edges[1] + 1], values[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(values.mean()), recall=float((values > 0.5).mean()), decay=float(first.mean() - last.mean())
    )


def count_objects(first_mask: UInt8[np.ndarray, "H W"]) -> int:
    """Number of objects of a sequence: the highest id in its first ground-truth mask, void aside."""
    return int(np.where(first_mask == VOID, 0, first_mask).max(initial=0))


def score_frames(
    target: UInt8[np.ndarray, "T H W"], predicted: UInt8[np.ndarray, "T H W"], num_objects: int
) -> tuple[Float[np.ndarray, "K T"], Float[np.ndarray, "K T"]]:
    """J and F of every object in every frame.

    Args:
        target: Ground-truth ids; void pixels count as background.
        predicted: Ids to judge. An id that is missing is an empty mask.
        num_objects: K; ids 1 to K are scored.

    Raises:
        ValueError: If a prediction holds an id above `num_objects`.
    """
    highest = int(predicted.max(initial=0))
    if highest > num_objects:
        raise ValueError(
            f"predicted masks hold object id {highest}, but the first ground-truth mask has ids up to {num_objects}; "
            "predict only objects of the first mask"
        )
    j, f = np.empty((num_objects, len(target))), np.empty((num_objects, len(target)))
    for k in range(num_objects):
        for t in range(len(target)):
            truth, guess = target[t] == k + 1, predicted[t] == k + 1
            j[k, t], f[k, t] = region_similarity(truth, guess), boundary_accuracy(truth, guess)
    return j, f


def score_sequence(
    target: UInt8[np.ndarray, "T H W"], predicted: UInt8[np.ndarray, "T H W"]
) -> tuple[tuple[Statistics, Statistics], ...]:
    """J and F statistics of every object of a sequence, semi-supervised: the first and the last frame are not scored.

    Args:
        target: Ground-truth ids of all frames.
        predicted: Predicted ids of all frames.

    Returns:
        One pair (J, F) an object, in the order of ids.

    Raises:
        ValueError: If there are fewer than three frames, or a predicted id that the first ground-truth mask lacks.
    """
    if len(target) < 3:
        raise ValueError(
            f"a sequence of {len(target)} frames has none left to score: the first and the last are dropped; "
            "give at least 3 frames"
        )
    j, f = score_frames(target[1:-1], predicted[1:-1], count_objects(target[0]))
    return tuple((summarize(j_object), summarize(f_object)) for j_object, f_object in zip(j, f, strict=True))


def pool(objects: list[tuple[Statistics, Statistics]]) -> dict[str, float]:
    """The official global scores: averages over all objects of all sequences, each object weighing the same.

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
        for j, f in score_sequence(target.cpu().numpy(), preds.cpu().numpy()):
            row = (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
            self.totals += torch.tensor(row, dtype=torch.float64, device=self.totals.device)
            self.num_objects += 1

    def compute(self) -> dict[str, Tensor]:
        """Scores under their official names; nan before the first object."""
        averages = self.totals / self.num_objects
        return dict(zip(SCORE_NAMES, [(averages[0] + averages[3]) / 2, *averages], strict=True))
