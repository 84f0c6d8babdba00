"""One vector per image, for tasks that compare whole images: retrieval, kNN classification.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, k prefix tokens.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

from srt_distill.tasks.candidate import Candidate

Descriptor = Literal["class", "mean"]
"""class: the class token after the final norm. mean: the mean of the candidate's chosen map, for models without one."""


def describe_images(candidate: Candidate, images: Real[Tensor, "B K H W"], which: Descriptor) -> Float[Tensor, "B C"]:
    """Describe images by one vector each, not normalised.

    Args:
        candidate: Whose features.
        images: Bytes, in a size that the candidate takes.
        which: Class token or mean of the map.

    Raises:
        ValueError: If the candidate has no class token.
    """
    return _describe(candidate, images, which)


def describe_at_scales(
    candidate: Candidate,
    images: Real[Tensor, "B K H W"],
    which: Descriptor,
    scales: Sequence[float],
    patch: int,
) -> Float[Tensor, "B C"]:
    """Average the vectors of an image over scales, before any normalisation (DINO's retrieval script).

    Args:
        candidate: Whose features.
        images: Bytes of any size; rows and columns that fill no patch are dropped at the bottom and right.
        which: Class token or mean of the map.
        scales: Factors on the sides, bilinear without antialiasing, as there.
        patch: What sides must be multiples of.

    Raises:
        ValueError: If an image has less than a patch at some scale.
    """
    vectors = []
    for scale in scales:
        resized = images.float()
        if scale != 1:
            resized = F.interpolate(resized, scale_factor=scale, mode="bilinear", align_corners=False)
        height, width = (side // patch * patch for side in resized.shape[-2:])
        if not height or not width:
            raise ValueError(
                f"an image of {images.shape[-2]}x{images.shape[-1]} pixels has no patch of {patch} pixels at scale "
                f"{scale:.3f}; use larger images, or leave out that scale"
            )
        vectors.append(_describe(candidate, resized[..., :height, :width], which))
    return sum(vectors[1:], start=vectors[0]) / len(vectors)


def _describe(candidate: Candidate, images: Tensor, which: Descriptor) -> Tensor:
    if which == "mean":
        return candidate.maps(images)[-1].float().mean((2, 3)).cpu()
    try:
        prefix, tokens = candidate.maps_at(images, ("-1:prefix", -1))
    except ValueError as error:
        if "no class or register tokens" not in str(error):
            raise
        raise ValueError(f"{candidate.name}: {error}, or compare images by descriptor 'mean'") from error
    return prefix.flatten(1)[:, : tokens.shape[1]].float().cpu()
