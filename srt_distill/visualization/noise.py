"""Where two feature fields differ, token by token, as a heat map.

Shape legend: B images, C channels, H W pixels, h w tokens.

Taking SRT for the signal, ‖SRT − single pass‖ is the noise of the single pass; it gathers where patches straddle the
border of an object (paper, Fig. 4).
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

HEAT_COLORMAP = "inferno"  # dark where nothing differs; perceptually even, so brightness reads as size
HEAT_QUANTILE = 0.99  # value shown as full brightness: a few corner tokens must not darken the rest


_CHANNELS = 32  # channels brought to the finer resolution at a time


def noise_map(features: Float[Tensor, "B C h w"], single: Float[Tensor, "B C h2 w2"]) -> Float[Tensor, "B h w"]:
    """Euclidean distance between two feature fields at each position of the finer one (paper, Fig. 4).

    Args:
        features: the field taken for the signal, such as SRT, as fine as `single` or finer.
        single: the features of one pass; each of its tokens stands for the whole block of positions that it covers.

    Returns:
        Distances in fp32.

    Raises:
        ValueError: If `features` is not finer than `single` by a whole number along each axis.
    """
    size, tokens = (features.shape[-2], features.shape[-1]), single.shape[-2:]
    if size[0] % tokens[0] or size[1] % tokens[1]:
        raise ValueError(
            f"features of {size[0]}x{size[1]} positions do not divide evenly into the {tokens[0]}x{tokens[1]} tokens "
            "of the single pass; compute both from the same image"
        )
    total = torch.zeros(len(features), *size, device=features.device)
    for part, coarse in zip(features.split(_CHANNELS, 1), single.split(_CHANNELS, 1), strict=True):
        total += (part.float() - _blocks(coarse, size)).square().sum(1)
    return total.sqrt_()


def resizing_noise_map(single: Float[Tensor, "B C h w"], height: int, width: int) -> Float[Tensor, "B height width"]:
    """Compute what bilinear resizing changes in one pass's features: the grid that Fig. 4 sets against SRT's noise.

    Args:
        single: the features of one pass.
        height: rows of the resized field, a multiple of the tokens.
        width: columns of the resized field, a multiple of the tokens.

    Returns:
        Distances between resized features and the token that covers each position, in fp32.
    """
    size = (height, width)
    total = torch.zeros(len(single), height, width, device=single.device)
    for part in single.split(_CHANNELS, 1):
        resized = F.interpolate(part.float(), size=size, mode="bilinear", align_corners=False)
        total += (resized - _blocks(part, size)).square().sum(1)
    return total.sqrt_()


def heat_range(maps: Sequence[Float[Tensor, "*_"]]) -> float:
    """Find the value of full brightness when several maps share one scale: the largest of their robust maxima.

    Args:
        maps: non-negative values of any shape.

    Returns:
        A value above zero.
    """
    highest = max(
        (float(np.quantile(values.detach().float().cpu().numpy(), HEAT_QUANTILE)) for values in maps), default=0
    )
    return highest if highest > 0 else 1.0


def heat_map(values: Float[Tensor, "H W"], high: float) -> UInt8[np.ndarray, "H W 3"]:
    """Colours values from 0 (dark) to `high` (bright).

    Args:
        values: non-negative values.
        high: value shown as full brightness, see `heat_range`; larger values are clipped.

    Returns:
        RGB picture.

    Raises:
        ValueError: If `high` is not above zero.
    """
    if not high > 0:
        raise ValueError(f"heat map range ends at {high}; it must be above 0")
    scaled = (values.detach().float().cpu().numpy() / high).clip(0, 1)
    return matplotlib.colormaps[HEAT_COLORMAP](scaled, bytes=True)[..., :3].copy()


def _blocks(single: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C h2 w2"]:
    """Every token repeated over the positions that it covers."""
    return F.interpolate(single.float(), size=size, mode="nearest")
