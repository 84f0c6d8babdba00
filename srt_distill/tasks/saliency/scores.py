"""maxF, IoU, accuracy and mean absolute error of saliency maps, under the field's two conventions.

Shape legend: H W pixels, k thresholds.

TokenCut's script averages F over images for each threshold and then takes the best; the toolbox averages precision and
recall first. They give different numbers for the same maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8

BETA_SQUARED = 0.3
TOKEN_CUT_THRESHOLDS = np.arange(255) / 255  # 0 to 254/255, exceeded strictly
TOOLBOX_THRESHOLDS = np.arange(256) / 255  # 0 to 1, reached or exceeded


def f_measure(precision: Float[np.ndarray, " k"], recall: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weigh precision against recall, β² = 0.3; 0 where both are 0."""
    total = BETA_SQUARED * precision + recall
    return np.divide((1 + BETA_SQUARED) * precision * recall, total, out=np.zeros_like(total), where=total > 0)


def token_cut_truth(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Mark what TokenCut's script takes for salient: any grey but black."""
    return mask > 0


def toolbox_truth(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Mark what the toolbox takes for salient: a tenth of white and all above it."""
    return mask / 255 >= 0.1


def f_curve(prediction: Real[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "255"]:
    """F of one image for every threshold that a pixel may exceed (TokenCut's script).

    Args:
        prediction: The map; values outside 0..1 are allowed.
        truth: Salient pixels.

    Returns:
        F at `TOKEN_CUT_THRESHOLDS`. Precision is 1 where nothing is predicted, recall is 1 where nothing is salient.
    """
    predicted = _counts_above(prediction, TOKEN_CUT_THRESHOLDS, strict=True)
    hits = _counts_above(prediction[truth], TOKEN_CUT_THRESHOLDS, strict=True)
    precision = np.divide(hits, predicted, out=np.ones(len(hits)), where=predicted > 0)
    recall = hits / truth.sum() if truth.any() else np.ones(len(hits))
    return f_measure(precision, recall)


def max_f(curves: Float[np.ndarray, "items k"]) -> float:
    """Best threshold's F, averaged over images (TokenCut's script)."""
    return float(curves.mean(0).max())


def intersection_over_union(predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Share of pixels that both masks hold among those that either holds; 1 for two empty masks."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def accuracy(predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Share of pixels on which two masks agree."""
    return float(np.mean(predicted == truth))


@dataclass(frozen=True, eq=False)
class ToolboxCurves:
    """What the toolbox keeps of one image.

    Attributes:
        precision: At `TOOLBOX_THRESHOLDS`; 0 where nothing is predicted.
        recall: There.
        counts: Whether the image counts in the averages; one whose map is all zeros does not.
        error: Mean absolute error of the map, its values stretched to 0..1.
    """

    precision: Float[np.ndarray, "256"]
    recall: Float[np.ndarray, "256"]
    counts: bool
    error: float


def toolbox_curves(prediction: Real[np.ndarray, "H W"], mask: UInt8[np.ndarray, "H W"]) -> ToolboxCurves:
    """Score one image as the public evaluation toolbox does (`sal_eval_toolbox`).

    Args:
        prediction: The map; what is below 0 counts as 0.
        mask: Grey levels; from a tenth of white upwards a pixel is salient.
    """
    truth = toolbox_truth(mask)
    values = np.maximum(prediction.astype(float), 0)
    low, high = values.min(), values.max()
    stretched = (values - low) / (high - low) if high > low else values
    error = float(np.abs(stretched - truth).mean())
    if not high:
        nothing = np.zeros(len(TOOLBOX_THRESHOLDS))
        return ToolboxCurves(nothing, nothing, counts=False, error=error)
    values = values / high
    predicted = _counts_above(values, TOOLBOX_THRESHOLDS, strict=False)
    hits = _counts_above(values[truth], TOOLBOX_THRESHOLDS, strict=False)
    precision = np.divide(hits, predicted, out=np.zeros(len(hits)), where=predicted > 0)
    recall = hits / truth.sum() if truth.any() else np.zeros(len(hits))
    return ToolboxCurves(precision, recall, counts=True, error=error)


def toolbox_max_f(curves: Sequence[ToolboxCurves]) -> float:
    """Best F of the mean precision and the mean recall over images; NaN if no image counts."""
    counted = [curve for curve in curves if curve.counts]
    if not counted:
        return float("nan")
    precision = np.mean([curve.precision for curve in counted], axis=0)
    recall = np.mean([curve.recall for curve in counted], axis=0)
    return float(f_measure(precision, recall).max())


def _counts_above(
    values: Real[np.ndarray, "*any"], thresholds: Float[np.ndarray, " k"], *, strict: bool
) -> Int[np.ndarray, " k"]:
    """How many values exceed, or unless `strict` reach, each of ascending thresholds."""
    passed = np.searchsorted(thresholds, values.ravel(), side="left" if strict else "right")
    by_number = np.bincount(passed, minlength=len(thresholds) + 1)  # [i]: values that pass exactly the first i
    return by_number[::-1].cumsum()[::-1][1:]
