"""Data-set level mIoU, aAcc and mAcc from areas that are summed over images.

Shape legend: H W pixels, K classes, N images.

Areas are whole numbers of pixels (int64), void left out everywhere, so a prediction on void adds to no union. A class
that occurs neither in truth nor in prediction has no IoU and is left out of the mean.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from srt_distill.tasks.segmentation.labels import VOID

Areas = dict[str, list[int]]
"""Pixels per class: `both`, `predicted` and `truth`."""


def count_areas(predicted: Int[np.ndarray, "H W"], truth: Int[np.ndarray, "H W"], num_classes: int) -> Areas:
    """Count what truth and prediction cover, and share, of every class."""
    p, t = predicted[truth != VOID], truth[truth != VOID]
    areas = {"both": t[p == t], "predicted": p, "truth": t}
    return {name: np.bincount(labels, minlength=num_classes).tolist() for name, labels in areas.items()}


def class_ious(areas: Sequence[Areas]) -> np.ndarray:
    """IoU of each class over all images; nan where a class occurs in neither truth nor prediction."""
    both, predicted, truth = (_total(areas, name) for name in ("both", "predicted", "truth"))
    return _share(both, predicted + truth - both)


def pool_areas(areas: Sequence[Areas]) -> dict[str, float]:
    """Give mIoU, aAcc and mAcc of the sums over images."""
    both, truth = _total(areas, "both"), _total(areas, "truth")
    return {
        "mIoU": _mean(class_ious(areas)),
        "aAcc": float(_share(both.sum(), truth.sum())),
        "mAcc": _mean(_share(both, truth)),
    }


def _total(areas: Sequence[Areas], name: str) -> Int[np.ndarray, " K"]:
    return np.array([of[name] for of in areas], dtype=np.int64).sum(0)


def _share(part: np.ndarray | np.int64, whole: np.ndarray | np.int64) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
