"""Median and variance over shifts: what the mean of SRT leaves out, and how far a token is to be trusted.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels,
T shifts,
s cells a token and axis.

A pixel of the image sees, under each of the T shifts, one token of the shifted map, moved back. The statistic is taken
over these T values, pixel by pixel, and then averaged over the pixels of a cell, exactly as Algorithm 1 does with the
mean. Which tokens a pixel sees depends on how near it is to its token's border: along an axis at most 2d+1 kinds of
pixel differ, so at p = 16 and d = 3 there are 49 statistics to take a token, not 256.

Second-order statistics can be "a weight for adaptive regularization" (paper, introduction; without a formula). Here
that is one number per token, the variance of its pooled maps over shifts summed over channels, taken in the same
passes as the mean (`ShiftVariance`), a weight made of it (`confidence`), and features regularised by it
(`ConfidentResonance`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from srt_distill.ensemble.mean import StochasticResonance, aligned_maps, shifted_maps
from srt_distill.ensemble.shifts import Shift, check_cells

Statistic = Literal["median", "variance"]
"""median: of an even number of shifts the mean of the middle two. variance: mean square minus squared mean, over T."""


def offset_classes(steps: Sequence[int], patch: int, scale: int) -> tuple[Int[Tensor, "k t"], Float[Tensor, "k s"]]:
    """Along one axis, the kinds of pixel that a token has, by the tokens that they see under the given steps.

    Args:
        steps: t shifts along this axis, in pixels, each smaller than the patch.
        patch: p, pixels a token.
        scale: s, cells a token; divides p.

    Returns:
        For each of k kinds the token seen under each step, relative to the pixel's own (-1, 0 or 1), and the share of
        each cell's pixels that are of this kind.

    Raises:
        ValueError: If the cells are not whole pixels, or a step is not smaller than the patch.
    """
    check_cells(max(map(abs, steps)), patch, scale)
    pixels = torch.arange(patch)
    seen = (pixels[:, None] + torch.tensor(steps)).div(patch, rounding_mode="floor")
    kinds, kind = torch.unique(seen, dim=0, return_inverse=True)
    cell = pixels.div(patch // scale, rounding_mode="floor")
    shares = torch.zeros(len(kinds), scale, dtype=torch.float64)
    shares.index_put_((kind, cell), torch.tensor(scale / patch, dtype=torch.float64), accumulate=True)
    return kinds, shares


def reduce_shifts(
    maps: Float[Tensor, "T B C h w"], shifts: Sequence[Shift], patch: int, statistic: Statistic, scale: int = 1
) -> Float[Tensor, "B C _hs _ws"]:
    """Take a statistic over maps of shifted views, pixel by pixel, averaged over cells; borders repeat the edge token.

    Args:
        maps: Of each view, still shifted.
        shifts: (dy, dx) of each view, in pixels.
        patch: p, pixels a token.
        statistic: Which.
        scale: s, cells a token and axis.

    Returns:
        (B, C, h s, w s).
    """
    _, num_images, channels, rows, columns = maps.shape
    down, down_shares = offset_classes([dy for dy, _ in shifts], patch, scale)
    right, right_shares = offset_classes([dx for _, dx in shifts], patch, scale)
    view = torch.arange(len(shifts))[:, None, None]
    total = maps.new_zeros(num_images, channels, rows, scale, columns, scale)
    for row_steps, row_shares in zip(down, down_shares, strict=True):
        row = (torch.arange(rows) + row_steps[:, None]).clamp(0, rows - 1)
        for column_steps, column_shares in zip(right, right_shares, strict=True):
            column = (torch.arange(columns) + column_steps[:, None]).clamp(0, columns - 1)
            seen = maps.permute(0, 3, 4, 1, 2)[view, row[:, :, None], column[:, None, :]]
            value = _reduce(seen, statistic).permute(2, 3, 0, 1)
            share = (row_shares[:, None] * column_shares).to(value)
            total += value[:, :, :, None, :, None] * share[:, None, :]
    return total.reshape(num_images, channels, rows * scale, columns * scale)


def _reduce(values: Tensor, statistic: Statistic) -> Tensor:
    if statistic == "variance":
        return values.var(0, correction=0)
    middle = values.movedim(0, -1).contiguous()
    low, high = (values.shape[0] - 1) // 2, values.shape[0] // 2
    lower = middle.kthvalue(low + 1, dim=-1).values
    return lower if high == low else (lower + middle.kthvalue(high + 1, dim=-1).values) / 2


@dataclass(frozen=True)
class ShiftStatistic:
    """A statistic over shifts, itself an extractor: images (B, K, H, W) to maps (B, C, h s, w s).

    Unlike the mean it needs the maps of all views at once: T (B, C, h, w) a layer, held twice over.

    Attributes:
        srt: Which shifts of which extractor; its border must be "edge".
        statistic: Which.
        scale: s, cells a token and axis; divides the patch side. 1 is the token grid, p pixel resolution.

    Raises:
        ValueError: If the scale is not positive, or beyond the frame lies anything but the repeated edge.
    """

    srt: StochasticResonance
    statistic: Statistic
    scale: int = 1

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"scale {self.scale} is not a positive number; use 1 or more")
        if self.srt.border != "edge":
            raise ValueError(
                f"border {self.srt.border!r} leaves pixels without a value, of which there is no {self.statistic}; "
                "use border 'edge'"
            )

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Take the statistic of every layer; of a map of one token, which stands for the whole image, plainly."""
        srt = self.srt
        views = list(
            shifted_maps(srt.extract, images, srt.shifts, radius=srt.radius, margin=srt.margin, batches=srt.batches)
        )
        reduced = []
        for layer, patch in enumerate(views[0][2]):
            maps = torch.stack([view[layer] for _, view, _ in views])
            if maps.shape[-2:] == (1, 1):
                reduced.append(_reduce(maps, self.statistic))
            else:
                reduced.append(reduce_shifts(maps, srt.shifts, patch, self.statistic, self.scale))
        return tuple(reduced)


def mean_and_variance(
    aligned: Iterator[tuple[Tensor, ...]],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Stream the mean over views and the variance summed over channels (Welford), in the maps' fp32.

    Args:
        aligned: For each view one map (B, C, h, w) per layer, in its place.

    Returns:
        Means (B, C, h, w), and population variances (B, 1, h, w): mean over views of the squared distance to the mean.
    """
    mean = next(aligned)
    spread = tuple(torch.zeros_like(layer[:, :1]) for layer in mean)
    num_views = 1
    for maps in aligned:
        num_views += 1
        before = mean
        mean = tuple(torch.lerp(m, g, 1 / num_views) for m, g in zip(before, maps, strict=True))
        spread = tuple(
            s + ((g - old) * (g - new)).sum(1, keepdim=True)
            for s, g, old, new in zip(spread, maps, before, mean, strict=True)
        )
    return mean, tuple(s / num_views for s in spread)


@dataclass(frozen=True)
class ShiftVariance:
    """Variance over shifts of every token, itself an extractor: images (B, K, H, W) to maps (B, 1, h, w).

    Of the pooled maps, moved back: what is left of a token's disagreement with itself after Eq. 2; none at radius 0.
    Unlike `ShiftStatistic` it needs no more memory than the mean.

    Attributes:
        srt: Which shifts of which extractor. Borders filled with zeros fake a variance; "edge" does not.
    """

    srt: StochasticResonance

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Give one map (B, 1, h, w) per layer."""
        return _statistics(self.srt, images)[1]


def confidence(variance: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B 1 h w"]:
    """Make a weight of each token's variance: 1 / (1 + v / median v), one half for the median token of its image.

    The form is a choice of ours. Where all variances are zero, as at radius 0, all weights are 1.

    Args:
        variance: Not negative.
    """
    median = variance.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    return torch.where(median > 0, 1 / (1 + variance / median.clamp(min=torch.finfo(variance.dtype).tiny)), 1.0)


@dataclass(frozen=True)
class ConfidentResonance:
    """SRT whose uncertain tokens lean on their neighbours, itself an extractor: (B, K, H, W) to (B, C, h, w).

    A token x of confidence c becomes c x + (1 - c) times the mean of the 3 x 3 tokens round it, weighted by *their*
    confidence: adaptive regularisation by second-order statistics, at no further pass. Radius 0 changes nothing.

    Attributes:
        srt: Which shifts of which extractor.
    """

    srt: StochasticResonance

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Give one map (B, C, h, w) per layer; a token for the whole image is the mean."""
        means, variances = _statistics(self.srt, images)
        return tuple(lean_on_neighbours(m, confidence(v)) for m, v in zip(means, variances, strict=True))


def lean_on_neighbours(
    features: Float[Tensor, "B C h w"], weight: Float[Tensor, "B 1 h w"]
) -> Float[Tensor, "B C h w"]:
    """Mix each token with the weighted mean of the 3 x 3 tokens round it, the more so the lower its own weight.

    Args:
        features: A map.
        weight: Of each token, above 0 and at most 1; 1 leaves the token as it is.
    """
    around = F.avg_pool2d(features * weight, 3, 1, 1) / F.avg_pool2d(weight, 3, 1, 1)
    return weight * features + (1 - weight) * around


def _statistics(srt: StochasticResonance, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    views = aligned_maps(
        srt.extract,
        images,
        srt.shifts,
        radius=srt.radius,
        border=srt.border,
        margin=srt.margin,
        batches=srt.batches,
    )
    return mean_and_variance(views)
