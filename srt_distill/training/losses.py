"""Distances between feature maps or the relations inside them, and penalties on weights.

Shape legend: B images, C channels, h w tokens, n = h·w.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Loss = Literal["mse", "l2", "l1", "smooth_l1", "cosine"]
"""Distance between a student's and a target's feature map.

mse: mean squared difference. Its gradient is linear in the target, so sampled shifts estimate it without bias.
l2: norm of the whole map's difference, mean over images: the un-squared norm of Eq. 6.
l1: mean absolute difference.
smooth_l1: quadratic below a difference of 1, linear above (Huber).
cosine: one minus the cosine of the angle between the vectors of a token, mean over tokens: blind to their lengths.
"""

Penalty = Literal["l2_sp", "weight_norm"]
"""What holds weights back: the pull towards where they started (`distance_to_start`), or `weight_norm`."""

UNBIASED_LOSSES: tuple[Loss, ...] = ("mse",)
"""Losses whose expected gradient under sampled shifts is the full grid's."""


def feature_distance(
    student: Float[Tensor, "B C h w"], target: Float[Tensor, "B C h w"], loss: Loss = "mse"
) -> Float[Tensor, ""]:
    """Measure the distance of the student's map from the target, in fp32 whatever the precision of the passes.

    Args:
        student: (B, C, h, w) features of one layer.
        target: (B, C, h, w) what they should become; no gradient flows into it.
        loss: Which distance.

    Returns:
        A scalar. Source: paper, Eq. 6 (`l2`); the authors' public code (`mse`, `l1`).
    """
    student, target = student.float(), target.detach().float()
    if loss == "mse":
        return F.mse_loss(student, target)
    if loss == "l2":
        return torch.linalg.vector_norm(student - target, dim=(1, 2, 3)).mean()
    if loss == "l1":
        return F.l1_loss(student, target)
    if loss == "smooth_l1":
        return F.smooth_l1_loss(student, target)
    return (1 - F.cosine_similarity(student, target, dim=1)).mean()


def relation_distance(
    student: Float[Tensor, "B C h w"],
    target: Float[Tensor, "B C h w"],
    temperature: float = 0.1,
    window_radius: int | None = 12,
) -> Float[Tensor, ""]:
    """Measure how far the student's tokens stand to one another as the target's do, whatever their values.

    Each token's cosine similarities to the other tokens of its image that lie in a square window are made a
    distribution by a softmax, as label propagation does; the distance is KL(target || student), mean over tokens.

    Args:
        student: (B, C, h, w) features of one layer.
        target: (B, C, h, w) what they should become; no gradient flows into it.
        temperature: Of both softmaxes.
        window_radius: In tokens; None for the whole image.

    Raises:
        ValueError: If a map has one token, or the temperature is not positive.
    """
    if student.shape[-2] * student.shape[-1] == 1 or temperature <= 0:
        raise ValueError(
            f"relations of {student.shape[-2]}x{student.shape[-1]} tokens at temperature {temperature}: there must be "
            "two tokens or more, and a temperature above 0; choose layers of patch tokens, or set relations.weight 0"
        )
    left_out = _unrelated(student.shape[-2], student.shape[-1], window_radius, student.device)
    ours, theirs = (
        (similarities(maps.float()) / temperature).masked_fill(left_out, -torch.inf).log_softmax(-1)
        for maps in (student, target.detach())
    )
    return torch.where(left_out, 0.0, theirs.exp() * (theirs - ours)).sum(-1).mean()


def similarities(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B n n"]:
    """Cosine of the angle between any two tokens of an image, row by row."""
    unit = F.normalize(maps.flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


def _unrelated(height: int, width: int, radius: int | None, device: torch.device) -> Bool[Tensor, "n n"]:
    """Which pairs of tokens are left out: a token with itself, and those beyond the window."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return (apart == 0) if radius is None else (apart == 0) | (apart > radius)


def distance_to_start(weights: Iterable[Tensor], start: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Σ‖w - w0‖² over the given pairs: the pull towards the starting point (L2-SP; Li et al., ICML 2018, Eq. 4)."""
    return torch.stack([(w - w0.detach()).float().square().sum() for w, w0 in zip(weights, start, strict=True)]).sum()


def weight_norm(weights: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Σ‖w‖₂ over parameter tensors, not squared: the penalty in the authors' public code."""
    return torch.stack([torch.linalg.vector_norm(w.float()) for w in weights]).sum()


def weight_penalty(pairs: Iterable[tuple[Tensor, Tensor]], penalty: Penalty) -> Float[Tensor, ""]:
    """Return the penalty over those weights that train.

    Args:
        pairs: w and w0 of every parameter.
        penalty: Which one.
    """
    weights, start = zip(*((w, w0) for w, w0 in pairs if w.requires_grad), strict=True)
    return distance_to_start(weights, start) if penalty == "l2_sp" else weight_norm(weights)


def weigh_layers(layers: Sequence[int | str], weights: Sequence[float] | None) -> tuple[float, ...]:
    """Give the weight of each layer's loss: as given, or 1 each.

    Raises:
        ValueError: If there is not one weight per layer.
    """
    if weights is not None and len(weights) != len(layers):
        raise ValueError(f"{len(weights)} layer_weights for {len(layers)} layers; give one weight per layer, or null")
    return tuple(weights or [1.0] * len(layers))
