"""How good a ranking is: average precision, precision and recall at k, as revisited Oxford and Paris take them.

Shape legend: N gallery images.

Ranks are 0-based here. Junk is taken out of a ranking before anything is counted.
"""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int


def rank_gallery(similarities: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Order gallery images by similarity, the most similar first; of equal ones that of the lower index first."""
    return np.argsort(-similarities, kind="stable")


def positive_ranks(ranking: Sequence[int], positives: Collection[int], junk: Collection[int] = ()) -> list[int]:
    """Find the ranks of the positives in a ranking without junk.

    Args:
        ranking: Indices of gallery images, the best first.
        positives: Indices of right answers.
        junk: Indices that count neither for nor against; one that is also a positive is a positive.
    """
    wanted = set(positives)
    dropped = set(junk) - wanted
    kept = [index for index in map(int, ranking) if index not in dropped]
    return [rank for rank, index in enumerate(kept) if index in wanted]


def average_precision(ranks: Sequence[int]) -> float:
    """Area under the precision-recall curve by the trapezoid rule (revisitop; Radenović et al., CVPR 2018).

    The j-th positive at rank r adds (j/r + (j+1)/(r+1)) / 2, the first term 1 at rank 0. One positive on the second
    place gives 0.25, where the step-wise rule gives 0.5.

    Args:
        ranks: Of all positives, ascending.

    Returns:
        0 to 1; nan without positives.
    """
    if not ranks:
        return float("nan")
    areas = [((j / r if r else 1.0) + (j + 1) / (r + 1)) / 2 for j, r in enumerate(ranks)]
    return sum(areas) / len(ranks)


def precision_at(k: int, ranks: Sequence[int]) -> float:
    """Share of positives among the first k, or up to the last positive where that comes sooner (revisitop).

    Args:
        k: 1 or more.
        ranks: Of all positives, ascending.

    Returns:
        0 to 1; nan without positives.
    """
    if not ranks:
        return float("nan")
    seen = min(ranks[-1] + 1, k)
    return sum(rank < seen for rank in ranks) / seen


def recall_at(k: int, ranks: Sequence[int]) -> float:
    """Whether a positive is among the first k: 1 or 0; nan without positives."""
    return float(ranks[0] < k) if ranks else float("nan")
