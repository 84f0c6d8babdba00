"""The one idea everything speaks: a feature extractor is a function.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels.

The teacher, the student, SRT over either and every baseline are extractors; SRT takes one and is one. Evaluators
take an extractor and know nothing else. The patch side is not carried about: it is H / h.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Extractor = Callable[[Tensor], tuple[Tensor, ...]]
"""Normalised images (B, K, H, W) to a tuple of feature maps (B, C, h, w), one per chosen layer."""


@dataclass(frozen=True)
class UnitTokens:
    """Any extractor, every token of its maps brought to length 1: what label propagation compares.

    Taken before shifted views are averaged, so that the average stays linear in them and sampled shifts unbiased; the
    average of unit tokens is itself shorter, the more so the less they agree.

    Attributes:
        extract: The extractor.
    """

    extract: Extractor

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Float[Tensor, "B _C _h _w"], ...]:
        """Return maps whose channels at each token have a sum of squares of 1."""
        return tuple(F.normalize(maps, dim=1) for maps in self.extract(images))


def strides(images: Tensor, maps: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Pixels per token of each map, from the shapes alone.

    Args:
        images: (B, K, H, W) the extractor's input.
        maps: its output, each (B, C, h, w).

    Returns:
        One stride a map: the patch side of a plain ViT, the layer's stride in a hierarchical network. Of a map of a
        single token, which stands for the whole image (class and register tokens), the image's longer side.

    Raises:
        ValueError: If a map is not the image divided by one whole number along both axes.
    """
    height, width = images.shape[-2:]
    found = []
    for features in maps:
        rows, columns = features.shape[-2:]
        if rows == columns == 1:
            found.append(max(height, width))
            continue
        stride = height // rows
        if (rows * stride, columns * stride) != (height, width):
            raise ValueError(
                f"a feature map of {rows}x{columns} tokens does not tile an image of {height}x{width} pixels; "
                "resize or crop the image to a multiple of the patch side first"
            )
        found.append(stride)
    return tuple(found)
