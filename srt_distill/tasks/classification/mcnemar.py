"""McNemar's test: whether one classifier is right more often than another on the same images.

Shape legend: none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """What two classifiers' answers on the same images say.

    Attributes:
        gained: Images that only ours has right.
        lost: Images that only the reference has right.
        p_value: Two-sided and exact: the chance of so uneven a split of the images on which they differ, were both
            equally good.
    """

    gained: int
    lost: int
    p_value: float


def mcnemar(ours: Sequence[bool], reference: Sequence[bool]) -> McNemar:
    """Compare two classifiers image by image (McNemar, 1947; the exact binomial form).

    Args:
        ours: Whether each image is right.
        reference: The same of the other, on the same images in the same order.

    Raises:
        ValueError: If they are of different numbers of images.
    """
    gained = sum(a and not b for a, b in zip(ours, reference, strict=True))
    lost = sum(b and not a for a, b in zip(ours, reference, strict=True))
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return McNemar(gained, lost, p_value)
