"""The Stochastic Resonance Transformer: an ensemble over sub-patch shifts of any feature extractor.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels, d shift radius in pixels.

`StochasticResonance` takes an extractor and is one. Radius 0 is the single pass, to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.extractor import Extractor, strides
from srt_distill.shifts import Border, Shift, check_product_grid, grid_shifts, pad_images, slice_view, unshift_tokens


def aligned_maps(
    extract: Extractor,
    images: Float[Tensor, "B 3 H W"],
    shifts: Sequence[Shift],
    *,
    radius: int,
    border: Border = "edge",
    margin: int = 0,
    views_per_batch: int = 1,
) -> Iterator[tuple[Tensor, ...]]:
    """Feature maps of every shifted view, moved back onto the token grid of the unshifted image, one view at a time.

    Views are slices of one padded image; only `views_per_batch` of them exist at once.

    Args:
        extract: Any extractor.
        images: (B, 3, H+2m, W+2m) normalised images, of which the outer `margin` pixels are context only.
        shifts: Shifts (dy, dx) in pixels, each at most `radius`.
        radius: d, in pixels.
        border: What lies beyond the given pixels, and beyond the token map.
        margin: m, real pixels round the image. With m ≥ d every view sees real pixels and no padding.
        views_per_batch: Views that go through the extractor together.

    Yields:
        For each shift, in order, one fp32 (or fp64) map (B, C, h, w) a layer.

    Raises:
        ValueError: If a shift is not smaller than a layer's stride, or the border cannot take this set of shifts.
    """
    check_product_grid(shifts, radius, border)
    size = images.shape[-2] - 2 * margin, images.shape[-1] - 2 * margin
    padding = max(radius - margin, 0)
    padded = pad_images(images, padding, border)
    for start in range(0, len(shifts), views_per_batch):
        chunk = shifts[start : start + views_per_batch]
        views = [slice_view(padded, shift, margin + padding, size) for shift in chunk]
        batch = views[0] if len(views) == 1 else torch.cat(views)
        maps = extract(batch)
        patches = strides(batch, maps)
        for i, shift in enumerate(chunk):
            rows = slice(i * len(images), (i + 1) * len(images))
            yield tuple(
                unshift_tokens(_at_least_float32(features[rows]), shift, patch, border, radius)
                for features, patch in zip(maps, patches, strict=True)
            )


def mean_maps(aligned: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Streaming mean over views, accumulated in fp32: m ← m + (g - m)/(t + 1) (paper, Eq. 3)."""
    mean = next(aligned)
    for t, maps in enumerate(aligned, start=1):
        mean = tuple(torch.lerp(m, g, 1 / (t + 1)) for m, g in zip(mean, maps, strict=True))
    return mean


@dataclass(frozen=True)
class StochasticResonance:
    """SRT over any extractor, itself an extractor: images (B, 3, H, W) to fp32 maps (B, C, h, w) (paper, Algorithm 1).

    Attributes:
        extract: The extractor whose features are averaged.
        radius: d, in pixels; the paper's "perturbation level". 0 is the single pass.
        border: What lies beyond the frame; see `srt_distill.shifts.Border`.
        views_per_batch: Shifted views that go through the extractor together: memory against speed.
        margin: Real pixels round the image that the caller supplies; the maps cover the image without them.
    """

    extract: Extractor
    radius: int = 3
    border: Border = "edge"
    views_per_batch: int = 1
    margin: int = 0

    def __post_init__(self) -> None:
        if self.views_per_batch < 1:
            raise ValueError(f"views_per_batch {self.views_per_batch} is not a positive number; use 1 or more")

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """The full grid of shifts; its length is the number of passes an image costs."""
        return grid_shifts(self.radius, self.border)

    def __call__(self, images: Float[Tensor, "B 3 H W"], shifts: Sequence[Shift] | None = None) -> tuple[Tensor, ...]:
        """Average the maps of all shifted views, or of the given `shifts` only."""
        return mean_maps(
            aligned_maps(
                self.extract,
                images,
                self.shifts if shifts is None else shifts,
                radius=self.radius,
                border=self.border,
                margin=self.margin,
                views_per_batch=self.views_per_batch,
            )
        )


def _at_least_float32(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()
