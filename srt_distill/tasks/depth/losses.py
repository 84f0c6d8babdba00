"""What depth heads minimise: the scale-invariant log loss, and a loss of log gradients.

Shape legend: B images, H W pixels.

Source: DINOv2's depth evaluation. Truth is 0 where unknown; such pixels do not count.
"""

import torch
from jaxtyping import Float
from torch import Tensor

LOG_OFFSET = 1e-3  # metres
MEAN_WEIGHT = 0.15
NUM_MEAN_ONLY = 100  # first steps of the reference's 38,400 in which the variance is left out
GRADIENT_STRIDES = (1, 2, 4, 6)
_SMALLEST = 1e-12  # the root's slope at 0 is infinite


def log_difference(predicted: Float[Tensor, "B H W"], truth: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Give ln(predicted + .001) - ln(truth + .001)."""
    return (predicted + LOG_OFFSET).log() - (truth + LOG_OFFSET).log()


def silog_loss(
    predicted: Float[Tensor, "B H W"], truth: Float[Tensor, "B H W"], *, with_variance: bool = True
) -> Float[Tensor, ""]:
    """Take the scale-invariant log loss over all known pixels of a batch: √(var(g) + .15·mean(g)²), var with ddof 1.

    Args:
        predicted: In metres.
        truth: In metres.
        with_variance: False leaves the variance out, as the reference does in its first 100 steps.

    Returns:
        The loss; 0, with gradients of 0, where it vanishes or fewer than two pixels are known.
    """
    g = log_difference(predicted, truth)[truth > 0]
    if g.numel() < 2:
        return predicted.sum() * 0
    square = MEAN_WEIGHT * g.mean() ** 2
    if with_variance:
        square = square + g.var()
    return square.clamp(min=_SMALLEST).sqrt()


def log_gradient_loss(predicted: Float[Tensor, "B H W"], truth: Float[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Sum, over strides 1, 2, 4, 6, the mean |Δ| of log differences two pixels apart, along both axes.

    A difference counts where both its ends are known; the sum is divided by the number of known pixels of the strided
    map. DINOv2's code slices the first two axes of a (B, 1, H, W) tensor, which leaves nothing for B ≤ 2; this is what
    it means.
    """
    total = predicted.sum() * 0
    for stride in GRADIENT_STRIDES:
        p, g = predicted[:, ::stride, ::stride], truth[:, ::stride, ::stride]
        known = g > 0
        if not known.any():
            continue
        d = torch.where(known, log_difference(p, g), 0)
        rows = (d[:, 2:] - d[:, :-2]).abs() * (known[:, 2:] & known[:, :-2])
        columns = (d[:, :, 2:] - d[:, :, :-2]).abs() * (known[:, :, 2:] & known[:, :, :-2])
        total = total + (rows.sum() + columns.sum()) / known.sum()
    return total
