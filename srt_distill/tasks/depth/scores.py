"""How good a depth map is: RMSE, RMSE_log, AbsRel, SqRel, a1 to a3 of one image.

Shape legend: H W pixels.

Scores are of one image; over images they are averaged, as DINOv2's evaluation does (pooling pixels first gives other
numbers).
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Scaling = Literal["none", "median"]
"""none: metric depth. median: each prediction is multiplied so that its median is the truth's (SRT's public script)."""

EIGEN_BOX = slice(45, 471), slice(41, 601)  # rows and columns of a 480x640 frame (Eigen et al., 2014)
EIGEN_SIZE = (480, 640)


def scored_pixels(
    truth: Float[np.ndarray, "H W"], low: float, high: float, *, eigen_crop: bool = False
) -> Bool[np.ndarray, "H W"]:
    """Choose the pixels that count: a truth strictly between the limits, and inside Eigen's box if asked for.

    Args:
        truth: In metres, 0 where unknown.
        low: In metres.
        high: In metres.
        eigen_crop: Leave the rest of a 480x640 frame out.
    """
    scored = (truth > low) & (truth < high)
    if eigen_crop:
        inside = np.zeros_like(scored)
        inside[EIGEN_BOX] = True
        scored &= inside
    return scored


def score_depth(
    predicted: Float[np.ndarray, "H W"],
    truth: Float[np.ndarray, "H W"],
    scored: Bool[np.ndarray, "H W"],
    scaling: Scaling = "none",
) -> dict[str, float]:
    """Score a depth map; each score is nan if no pixel counts.

    Args:
        predicted: In metres, above 0.
        truth: In metres.
        scored: Which pixels count.
        scaling: Of the prediction, first.

    Returns:
        RMSE and SqRel in metres; a_k is the share of pixels off by a factor strictly below 1.25^k.
    """
    p, g = predicted[scored].astype(np.float64), truth[scored].astype(np.float64)
    if not len(g):
        return dict.fromkeys(("RMSE", "RMSE_log", "AbsRel", "SqRel", "a1", "a2", "a3"), float("nan"))
    if scaling == "median":
        p = p * (np.median(g) / np.median(p))
    error, factor = p - g, np.maximum(p / g, g / p)
    scores = {
        "RMSE": np.sqrt(np.mean(error**2)),
        "RMSE_log": np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2)),
        "AbsRel": np.mean(np.abs(error) / g),
        "SqRel": np.mean(error**2 / g),
        **{f"a{k}": np.mean(factor < 1.25**k) for k in (1, 2, 3)},
    }
    return {name: float(value) for name, value in scores.items()}
