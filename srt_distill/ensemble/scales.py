"""Small changes of scale: domain-size pooling as one more pair of *transform* and *undo*.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.

Images need anti-aliasing over scale as over translation, and the same process can act on the size of the domain (Lao et
al., Sect. 1, 2.1 and 4, App. D; for SIFT, Dong & Soatto, CVPR 2015). The image is resized to a whole number of tokens,
and a token of the original's grid becomes the mean of the resized image's tokens, weighted by the share of its area
that each covers: nearest upsampling, warp and average pooling in closed form, as for shifts. Nothing is lost at borders
and constants return exactly. The model resizes its position embedding to the new grid by itself.

`PerturbationMean(extract, scale_changes(5, patch))` is the extractor, and under `StochasticResonance` a training
target.
"""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.perturbations import Grid, Perturbation, PerturbationMean
from srt_distill.extractor import Extractor

SPAN = 2**0.5
"""Largest change of scale, up and down: beyond it a token is another part of the scene."""


def scale_changes(num_scales: int, patch: int, span: float = SPAN) -> tuple[Perturbation, ...]:
    """List changes to scales spread evenly, as ratios, from 1/span to span; 1 itself is no change and left out.

    Args:
        num_scales: Scales with the original among them, so that a mean over them has as many passes; odd.
        patch: p, in pixels; of a hierarchical network its coarsest stride.
        span: The largest scale.

    Raises:
        ValueError: If the number is even or not positive, or the span is not above 1.
    """
    if num_scales < 1 or num_scales % 2 == 0:
        raise ValueError(
            f"{num_scales} scales are not the original and as many smaller as larger ones; use 1, 3, 5 or another odd "
            "number"
        )
    if span <= 1:
        raise ValueError(f"scale span {span} leaves nothing to change; use a number above 1, such as {SPAN:.3f}")
    half = num_scales // 2
    steps = [step for step in range(-half, half + 1) if step]
    return tuple(change_scale(span ** (step / half), patch) for step in steps)


def average_views(extract: Extractor, flip: bool, num_scales: int, patch: int) -> Extractor:
    """Average every pass over its mirrored and resized views; without any, the extractor itself.

    Args:
        extract: The extractor whose features are averaged.
        flip: Whether views are mirrored too.
        num_scales: See `scale_changes`; 1 for none.
        patch: p, in pixels.
    """
    changes = scale_changes(num_scales, patch)
    flipped = PerturbationMean(extract) if flip else extract
    return PerturbationMean(flipped, changes) if changes else flipped


def check_scales(num_scales: int, fixed_size: tuple[int, int] | None, name: str) -> None:
    """Refuse changes of scale where a network takes images of one size.

    Args:
        num_scales: 1 for none.
        fixed_size: The one size in pixels, or None.
        name: Of the network.

    Raises:
        ValueError: If it takes one size only.
    """
    if num_scales != 1 and fixed_size is not None:
        raise ValueError(f"{name} takes images of one size only, so scales {num_scales} cannot be had; use 1")


def change_scale(scale: float, patch: int) -> Perturbation:
    """Make one change of scale, undone by area.

    Args:
        scale: s; the effective one is h_s p / H, as sides are rounded to whole patches.
        patch: p, in pixels.
    """
    return Perturbation(partial(resize_to_tokens, scale=scale, patch=patch), pool_by_area)


def resize_to_tokens(images: Float[Tensor, "B K H W"], scale: float, patch: int) -> Float[Tensor, "B K _H2 _W2"]:
    """Resize images to about a scale, with sides of a whole number of patches, without aliasing.

    Args:
        images: Of any normalisation.
        scale: s.
        patch: p; a side of H pixels becomes p max(1, round(s H / p)).
    """
    height, width = (patch * max(1, round(scale * side / patch)) for side in images.shape[-2:])
    if (height, width) == images.shape[-2:]:
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True)


def pool_by_area(maps: Float[Tensor, "B C _h2 _w2"], grid: Grid) -> Float[Tensor, "B C _h _w"]:
    """Bring a map of a resized image onto the grid of the original: means by area.

    Args:
        maps: Tokens that together cover the same picture.
        grid: (h, w) of the original.
    """
    if tuple(maps.shape[-2:]) == grid:
        return maps
    down, right = (area_weights(given, wanted).to(maps) for given, wanted in zip(maps.shape[-2:], grid, strict=True))
    return torch.einsum("rh,bchw,sw->bcrs", down, maps, right)


def area_weights(num_given: int, num_wanted: int) -> Float[Tensor, "n m"]:
    """Compute the share of each of n equal cells of a line that lies in each of m equal cells of the same line.

    Args:
        num_given: m.
        num_wanted: n.

    Returns:
        (n, m), float64; rows sum to 1, the identity where m = n.
    """
    wanted = torch.arange(num_wanted, dtype=torch.float64)[:, None]
    left, right = (torch.arange(num_given + 1, dtype=torch.float64) * num_wanted / num_given).unfold(0, 2, 1).T
    return (torch.minimum(right, wanted + 1) - torch.maximum(left, wanted)).clamp(min=0)
