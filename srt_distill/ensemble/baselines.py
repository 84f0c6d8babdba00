"""What SRT is compared with in the paper's tables: other ways to spend passes, or none at all.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels, d shift radius in pixels.

Each takes an extractor and is one. Overlapping tokens (Table 1) need another patch embedding and nothing else:
`FeatureExtractor(overlap_tokens(model, stride))`. The output ensemble cannot be an extractor alone, since it averages
what an evaluator makes of the features: `ShiftedViews` extracts the views, one map each, and the evaluator, told their
shifts, averages its outputs (`srt_distill.tasks.davis.output_ensemble`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from srt_distill.ensemble import at_least_float32, mean_maps, shifted_maps
from srt_distill.ensemble.shifts import Border, Shift, Subset, subset_shifts
from srt_distill.extractor import Extractor, strides
from srt_distill.images import Normalization

Interpolation = Literal["bilinear", "bicubic"]

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}  # as DINO's augmentation


@dataclass(frozen=True)
class NaiveEnsemble:
    """Mean of the features of colour-jittered copies: test-time augmentation without shifts (paper, Table 1).

    The first view is the image itself, so one view is the single pass. Factors depend on the view alone: all images,
    and all frames of a video, are recoloured alike. The paper gives no strengths; `JITTER` are those of DINO's
    pre-training.

    Attributes:
        extract: The extractor whose features are averaged.
        normalization: What images are normalised with; colours change before.
        num_views: Passes an image costs.
        strength: Factor on `JITTER`.
        seed: Of the factors.

    Raises:
        ValueError: If there is no view, or the strength makes a factor negative.
    """

    extract: Extractor
    normalization: Normalization
    num_views: int = 49
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"{self.num_views} views asked for; a naive ensemble needs at least 1")
        if not 0 <= self.strength <= 2.5:
            raise ValueError(f"jitter strength {self.strength} is outside 0 to 2.5; 1 is that of DINO's pre-training")

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Average the maps (B, C, h, w) of all views, in fp32."""
        draws = torch.Generator().manual_seed(self.seed)
        factors = self.strength * (2 * torch.rand(self.num_views - 1, len(JITTER), generator=draws) - 1)

        def views() -> Iterator[tuple[Tensor, ...]]:
            yield tuple(at_least_float32(features) for features in self.extract(images))
            unit = self.normalization.undo(images)
            for row in factors.tolist():
                changed = jitter_colors(unit, *(size * draw for size, draw in zip(JITTER.values(), row, strict=True)))
                yield tuple(at_least_float32(features) for features in self.extract(self.normalization(changed * 255)))

        return mean_maps(views())


def jitter_colors(
    images: Float[Tensor, "B 3 H W"], brightness: float, contrast: float, saturation: float, hue: float
) -> Float[Tensor, "B 3 H W"]:
    """Change colours by given amounts; zeros change nothing.

    Args:
        images: (B, K, H, W) in 0…1.
        brightness: Added to a factor of 1.
        contrast: Added to a factor of 1.
        saturation: Added to a factor of 1.
        hue: Turn of the colour circle, -0.5…0.5.
    """
    changes: tuple[tuple[Callable[[Tensor, float], Tensor], float, float], ...] = (
        (image_ops.adjust_brightness, brightness, 1 + brightness),
        (image_ops.adjust_contrast, contrast, 1 + contrast),
        (image_ops.adjust_saturation, saturation, 1 + saturation),
        (image_ops.adjust_hue, hue, hue),
    )
    for change, amount, factor in changes:
        images = change(images, factor) if amount else images
    return images


@dataclass(frozen=True)
class InterpolatedFeatures:
    """Features interpolated to pixels and average-pooled back: finer only in appearance (paper, Table 8).

    Both steps are linear and separable, so together they are one small matrix an axis; no map grows.

    Attributes:
        extract: The extractor whose features are interpolated.
        mode: How.
        strength: Of the smoothing, along each axis: 1 is all of it, 0 leaves the features as they are.
    """

    extract: Extractor
    mode: Interpolation = "bilinear"
    strength: float = 1.0

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Return maps (B, C, h, w) of one pass, smoothed."""
        maps = self.extract(images)
        return tuple(
            torch.einsum(
                "rh,bchw,sw->bcrs",
                self._kernel(features.shape[-2], patch).to(features),
                features,
                self._kernel(features.shape[-1], patch).to(features),
            )
            for features, patch in zip(maps, strides(images, maps), strict=True)
        )

    def _kernel(self, num_tokens: int, patch: int) -> Float[Tensor, "n n"]:
        smoothing = interpolate_and_pool(num_tokens, patch, self.mode)
        return torch.lerp(torch.eye(num_tokens, dtype=smoothing.dtype), smoothing, self.strength)


def interpolate_and_pool(num_tokens: int, patch: int, mode: Interpolation) -> Float[Tensor, "n n"]:
    """Build the matrix that interpolates a row of n tokens to n·p pixels and averages each p of them."""
    identity = torch.eye(num_tokens, dtype=torch.float64)[None, None]
    pixels = F.interpolate(identity, (num_tokens * patch, num_tokens), mode=mode, align_corners=False)
    return pixels.view(num_tokens, patch, num_tokens).mean(1)


@dataclass(frozen=True)
class PyramidFeatures:
    """Each token beside the mean of its neighbourhood: two levels of a pyramid on one grid, twice the channels.

    The neighbourhood is the 3 x 3 tokens round it, weighed (1, 2, 1) / 4 an axis, edge tokens repeated, and its mean is
    brought to the token's own length. So the cosine of two such tokens is the mean of that of the tokens, which tells
    places apart, and that of their surroundings, which noise in single tokens hardly moves.

    Attributes:
        extract: The extractor whose features are read.
    """

    extract: Extractor

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Return maps (B, 2C, h, w) of one pass: the features, then those of their surroundings."""
        return tuple(torch.cat((maps, surroundings(maps)), dim=1) for maps in self.extract(images))


def surroundings(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Average each token with those round it, by the weights (1, 2, 1) / 4 along each axis, at the token's length."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]) / 4
    mean = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    return F.normalize(mean, dim=1) * maps.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class PooledFeatures:
    """Features on a finer grid, averaged onto cells of a given side, so that an evaluator meets the usual grid.

    Attributes:
        extract: An extractor with a stride that divides the side.
        patch: Side of a cell in pixels.
    """

    extract: Extractor
    patch: int

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Return maps (B, C, H/p, W/p).

        Raises:
            ValueError: If a map's stride does not divide the side.
        """
        maps = self.extract(images)
        pooled = []
        for features, stride in zip(maps, strides(images, maps), strict=True):
            if self.patch % stride:
                raise ValueError(
                    f"tokens of {stride} pixels do not tile cells of {self.patch}; choose a multiple of {stride}"
                )
            pooled.append(F.avg_pool2d(features, self.patch // stride))
        return tuple(pooled)


@dataclass(frozen=True)
class ShiftedViews:
    """Features of every shifted view as they are, not moved back: one map a shift, for an evaluator to make use of.

    Attributes:
        extract: The extractor; its last map is taken.
        radius: d, in pixels.
        border: What lies beyond the frame.
        subset: Which shifts of the grid.
    """

    extract: Extractor
    radius: int = 3
    border: Border = "edge"
    subset: Subset = "full"

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """In the order of the maps, the smallest last: who takes the last map has, but for `grid16`, a single pass."""
        return tuple(sorted(subset_shifts(self.radius, self.subset), key=lambda s: -(s[0] ** 2 + s[1] ** 2)))

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """One map (B, C, h, w) a shift."""
        views = shifted_maps(self.extract, images, self.shifts, radius=self.radius, border=self.border)
        return tuple(maps[-1] for _, maps, _ in views)
