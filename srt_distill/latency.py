"""How long one frame takes, measured so that a busy machine does not decide the comparison.

Shape legend: B images, K bands, H W pixels.

Two jobs are timed in turns, and the ratio is taken pair by pair: what slows the machine for a moment slows both.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from srt_distill.extractor import Extractor

CONFIDENCE = 0.95  # of the interval round a median


@dataclass(frozen=True)
class Latency:
    """Time of one job against a reference.

    Attributes:
        seconds: median time of one call.
        reference_seconds: median time of the reference in the same pairs.
        ratio: median over pairs of the time divided by the reference's.
        ratio_low: lower end of the interval round that median.
        ratio_high: upper end.
        coverage: chance that the interval holds the true median; below 0.95 where there are fewer than six pairs.
        num_pairs: pairs measured.
    """

    seconds: float
    reference_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    coverage: float
    num_pairs: int


def measure_latency(
    extract: Extractor,
    images: Float[Tensor, "B K H W"],
    reference: Extractor,
    reference_images: Float[Tensor, "B K H2 W2"],
    *,
    max_pairs: int = 15,
    budget: float = 20.0,
) -> Latency:
    """Time an extractor and a reference in turns, after one call of each that is not counted.

    Args:
        extract: the extractor to time.
        images: its input.
        reference: what it is compared with.
        reference_images: the reference's input; the same picture, at the size that the reference takes.
        max_pairs: pairs to measure.
        budget: seconds after which no further pair is begun; one pair is always measured.

    Returns:
        Medians and the ratio with its interval.

    Raises:
        ValueError: If no pair is asked for.
    """
    with torch.inference_mode():
        return time_pairs(
            lambda: extract(images),
            lambda: reference(reference_images),
            images.device,
            max_pairs=max_pairs,
            budget=budget,
        )


def time_pairs(
    job: Callable[[], object],
    reference: Callable[[], object],
    device: torch.device,
    *,
    max_pairs: int = 15,
    budget: float = 20.0,
) -> Latency:
    """Time any two jobs in turns, after one call of each that is not counted.

    Args:
        job: what to time.
        reference: what it is compared with.
        device: where they work; its queue is emptied before and after each call.
        max_pairs: pairs to measure.
        budget: seconds after which no further pair is begun; one pair is always measured.

    Returns:
        Medians and the ratio with its interval.

    Raises:
        ValueError: If no pair is asked for.
    """
    if max_pairs < 1:
        raise ValueError(f"{max_pairs} pairs asked for; a latency needs at least 1")
    _time(job, device)
    _time(reference, device)
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(pairs) < max_pairs and (not pairs or time.perf_counter() - start < budget):
        if len(pairs) % 2:  # whoever goes second finds other caches: take turns
            theirs = _time(reference, device)
            pairs.append((_time(job, device), theirs))
        else:
            pairs.append((_time(job, device), _time(reference, device)))
    ratios = [ours / theirs for ours, theirs in pairs]
    low, high, coverage = median_interval(ratios)
    return Latency(
        seconds=statistics.median(ours for ours, _ in pairs),
        reference_seconds=statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(ratios),
        ratio_low=low,
        ratio_high=high,
        coverage=coverage,
        num_pairs=len(pairs),
    )


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Confidence interval of a median from order statistics: no assumption on how the values are spread.

    The true median lies between the k-th smallest and the k-th largest of n values with probability
    1 - 2·P(Binomial(n, ½) < k). The narrowest such interval with at least the wanted probability is taken; where even
    the extremes do not reach it, the extremes.

    Args:
        values: independent measurements.
        confidence: probability wanted.

    Returns:
        Lower end, upper end and the probability reached.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("no value given; a median needs at least one")
    ordered = sorted(values)
    ranks = range(1, (len(ordered) + 1) // 2 + 1)
    coverages = {k: float(1 - 2 * binom.cdf(k - 1, len(ordered), 0.5)) for k in ranks}
    k = max((k for k in ranks if coverages[k] >= confidence), default=1)
    return ordered[k - 1], ordered[-k], max(coverages[k], 0.0)


def _time(job: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's queue emptied before and after."""
    synchronize(device)
    start = time.perf_counter()
    job()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for queued work, where the device queues."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
