"""How sure a gain is: a paired bootstrap over items.

Shape legend: none.

Items (videos, images, seeds) are drawn with replacement, both candidates are pooled over the *same* draw, and the
percentiles of the difference are the interval (Efron and Tibshirani, 1993, ch. 13). One function serves every task,
because a task pools any multiset of outcomes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from srt_distill.tasks import Outcome

CONFIDENCE = 0.95
NUM_DRAWS = 1000
FEWEST_ITEMS = 6
"""Below this many items not even a gain on all of them is significant at 5% (sign test: 2 · 2⁻⁵ = .06)."""

Pool = Callable[[Sequence[Outcome], Sequence[Outcome]], dict[str, float]]
"""Outcomes of a candidate and of the reference on the same items, to scores."""


def paired_bootstrap(
    pool: Pool,
    ours: Sequence[Outcome],
    reference: Sequence[Outcome],
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Estimate intervals of a candidate's gains over the reference.

    Args:
        pool: Makes scores of outcomes.
        ours: Outcomes of the candidate, by item.
        reference: Outcomes of the reference on the same items, in the same order.
        num_draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        By score, the 2.5th and 97.5th percentile of the difference; draws in which it is undefined are left out.
    """
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(num_draws):
        chosen = generator.integers(len(ours), size=len(ours)).tolist()
        drawn, drawn_reference = [ours[i] for i in chosen], [reference[i] for i in chosen]
        theirs = pool(drawn_reference, drawn_reference)
        for name, value in pool(drawn, drawn_reference).items():
            draws.setdefault(name, []).append(value - theirs[name])
    tail = 50 * (1 - CONFIDENCE)
    intervals = {}
    for name, values in draws.items():
        known = np.array([value for value in values if np.isfinite(value)])
        low, high = np.percentile(known, [tail, 100 - tail]).tolist() if len(known) else (np.nan, np.nan)
        intervals[name] = (low, high)
    return intervals
