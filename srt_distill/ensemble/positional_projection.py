"""Features without the directions that positions alone span: a baseline that costs no pass per image.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, N = h w tokens, r directions.

An image without content still has features that differ from token to token, and all that they can differ by is where
they are. INSID3 (Cuttano et al., CVPR 2026, 2603.28480) takes one black image, unit tokens less their mean, the first r
left singular vectors of that (C, N) matrix, and projects them out of every other image's features.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from srt_distill.extractor import Extractor
from srt_distill.images import Normalization

INSID3_SHARE = 500 / 1024
"""Directions that INSID3 removes from ViT-L's channels, as a share of these."""

SPANNED = 1e-6  # singular values below this share of the largest are rounding, not positions


@dataclass(frozen=True)
class PositionalProjection:
    """An extractor whose maps have lost the directions that a black image's features span, itself an extractor.

    Attributes:
        extract: The extractor; the black image costs it one pass per image size.
        normalization: Of its images: black before it is normalised.
        share: Directions removed, as a share of the channels; 0 removes none.

    Raises:
        ValueError: If the share is not from 0 up to 1.
    """

    extract: Extractor
    normalization: Normalization
    share: float = INSID3_SHARE
    _bases: dict[tuple[object, ...], tuple[Tensor, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(
                f"share {self.share} of directions is not from 0 up to 1; INSID3 removes {INSID3_SHARE:.3f}"
            )

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Project the maps (B, C, h, w) of one pass. A single token for the whole image is left as it is."""
        key = (*images.shape[1:], images.device, images.dtype)
        if key not in self._bases:
            black = self.normalization(torch.zeros_like(images[:1]))
            self._bases[key] = tuple(positional_basis(features, self.share) for features in self.extract(black))
        maps = self.extract(images)
        return tuple(
            features - torch.einsum("cr,dr,bdhw->bchw", basis, basis, features)
            for features, basis in zip(maps, self._bases[key], strict=True)
        )


def positional_basis(features: Float[Tensor, "1 C h w"], share: float) -> Float[Tensor, "C _r"]:
    """Find orthonormal directions in which the tokens of one image differ most.

    Args:
        features: Of an image without content.
        share: Directions, as a share of the channels; no more than the tokens span.

    Returns:
        (C, r), r = round(share C) at most; no direction for a map of one token.
    """
    tokens = F.normalize(features[0].flatten(1), dim=0)
    centred = tokens - tokens.mean(1, keepdim=True)
    num_channels, num_tokens = centred.shape
    num_directions = min(round(share * num_channels), num_tokens - 1)
    directions, sizes, _ = torch.linalg.svd(centred.double(), full_matrices=False)
    spanned = int((sizes > sizes[0] * SPANNED).sum()) if num_tokens > 1 else 0
    return directions[:, : min(num_directions, spanned)].to(features)
