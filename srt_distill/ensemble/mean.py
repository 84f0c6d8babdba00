"""The Stochastic Resonance Transformer: an ensemble over sub-patch shifts of any feature extractor.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels, d shift radius in pixels.

`StochasticResonance` takes an extractor and is one. Radius 0 is the single pass, to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.batching import ViewBatches, ViewsPerBatch
from srt_distill.ensemble.shifts import (
    Border,
    Shift,
    Subset,
    check_product_grid,
    grid_shifts,
    pad_images,
    slice_view,
    subset_shifts,
    unshift_tokens,
)
from srt_distill.extractor import Extractor, strides


def shifted_maps(
    extract: Extractor,
    images: Float[Tensor, "B K H W"],
    shifts: Sequence[Shift],
    *,
    radius: int,
    border: Border = "edge",
    margin: int = 0,
    batches: ViewBatches | None = None,
) -> Iterator[tuple[Shift, tuple[Tensor, ...], tuple[int, ...]]]:
    """Feature maps of every shifted view as they come, still shifted, one view at a time.

    Views are slices of one padded image; only those of one batch exist at once.

    Args:
        extract: Any extractor.
        images: (B, K, H+2m, W+2m) normalised images, of which the outer `margin` pixels are context only.
        shifts: Shifts (dy, dx) in pixels, each at most `radius`.
        radius: d, in pixels.
        border: What lies beyond the given pixels.
        margin: m, real pixels round the image. With m ≥ d every view sees real pixels and no padding.
        batches: How many views go through the extractor together; None for one at a time.

    Yields:
        For each shift, in order: the shift, one fp32 (or fp64) map (B, C, h, w) a layer, and each layer's pixels per
        token.
    """
    check_product_grid(shifts, radius, border)
    size = images.shape[-2] - 2 * margin, images.shape[-1] - 2 * margin
    padding = max(radius - margin, 0)
    padded = pad_images(images, padding, border)
    views = [slice_view(padded, shift, margin + padding, size) for shift in shifts]
    remaining = iter(shifts)
    for batch, maps in (batches or ViewBatches()).run(extract, views):
        patches = strides(batch, maps)
        for start in range(0, len(batch), len(images)):
            rows = slice(start, start + len(images))
            yield next(remaining), tuple(at_least_float32(features[rows]) for features in maps), patches
        del batch, maps  # else they outlive the next batch's passes


def aligned_maps(
    extract: Extractor,
    images: Float[Tensor, "B K H W"],
    shifts: Sequence[Shift],
    *,
    radius: int,
    border: Border = "edge",
    margin: int = 0,
    batches: ViewBatches | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Feature maps of every shifted view, moved back onto the token grid of the unshifted image, one view at a time.

    Args:
        extract: Any extractor.
        images: (B, K, H+2m, W+2m), as for `shifted_maps`.
        shifts: Shifts (dy, dx) in pixels, each at most `radius`.
        radius: d, in pixels.
        border: What lies beyond the given pixels, and beyond the token map.
        margin: m, real pixels round the image.
        batches: How many views go through the extractor together; None for one at a time.

    Yields:
        For each shift, in order, one fp32 (or fp64) map (B, C, h, w) a layer.

    Raises:
        ValueError: If a shift is not smaller than a layer's stride, or the border cannot take this set of shifts.
    """
    views = shifted_maps(extract, images, shifts, radius=radius, border=border, margin=margin, batches=batches)
    for shift, maps, patches in views:
        yield tuple(
            _move_back(features, shift, patch, border, radius) for features, patch in zip(maps, patches, strict=True)
        )
        del maps


def mean_maps(aligned: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Streaming mean over views, accumulated in fp32: m ← m + (g - m)/t (paper, Eq. 3).

    While a view is computed the mean is all that is held of those before it.
    """
    mean, num_views = next(aligned), 1
    while (maps := next(aligned, None)) is not None:
        num_views += 1
        mean = tuple(torch.lerp(m, g, 1 / num_views) for m, g in zip(mean, maps, strict=True))
        del maps
    return mean


@dataclass(frozen=True)
class StochasticResonance:
    """SRT over any extractor, itself an extractor: images (B, K, H, W) to fp32 maps (B, C, h, w) (paper, Algorithm 1).

    Attributes:
        extract: The extractor whose features are averaged.
        radius: d, in pixels; the paper's "perturbation level". 0 is the single pass.
        border: What lies beyond the frame; see `srt_distill.ensemble.shifts.Border`.
        views_per_batch: Shifted views that go through the extractor together: memory against speed; "auto" finds what
            fits.
        margin: Real pixels round the image that the caller supplies; the maps cover the image without them.
        subset: Which shifts of the grid are averaged: all, or a named few for fewer passes.

    Raises:
        ValueError: If `views_per_batch` is not positive, or the border cannot take a subset.
    """

    extract: Extractor
    radius: int = 3
    border: Border = "edge"
    views_per_batch: ViewsPerBatch = 1
    margin: int = 0
    subset: Subset = "full"
    batches: ViewBatches = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches", ViewBatches(self.views_per_batch))
        if self.border == "reference" and self.subset != "full":
            raise ValueError(
                f"border 'reference' is the authors' average over the full grid, not over subset {self.subset!r}; use "
                "subset 'full', or border 'zeros'"
            )

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """The shifts that are averaged; their number is that of the passes an image costs."""
        if self.subset == "full":
            return grid_shifts(self.radius, self.border)
        return subset_shifts(self.radius, self.subset)

    def __call__(self, images: Float[Tensor, "B K H W"], shifts: Sequence[Shift] | None = None) -> tuple[Tensor, ...]:
        """Average the maps of all shifted views, or of the given `shifts` only."""
        return mean_maps(
            aligned_maps(
                self.extract,
                images,
                self.shifts if shifts is None else shifts,
                radius=self.radius,
                border=self.border,
                margin=self.margin,
                batches=self.batches,
            )
        )


def _move_back(features: Tensor, shift: Shift, patch: int, border: Border, radius: int) -> Tensor:
    if features.shape[-2:] == (1, 1):  # one token for the whole image, as of class tokens: it has no place to move from
        return features
    return unshift_tokens(features, shift, patch, border, radius)


def at_least_float32(features: Tensor) -> Tensor:
    """Features as averages are taken: fp64 stays, everything shorter becomes fp32."""
    return features if features.dtype == torch.float64 else features.float()
