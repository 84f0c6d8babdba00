"""Averages over shifts of any length, whole patches included, that are undone in the token map.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels.

Shifts by whole patches tell nothing of the inside of a token: moved back, a token stands where it stood, and only what
the network makes of positions and of the rest of the frame has changed. Their mean, with mirrored views, takes noise
that is fixed to positions out of features; it is what PH-Reg distils (Chen et al., NeurIPS 2025, 2505.21501), and a row
that tells how much of SRT's gain is due to shifts *inside* patches.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.mean import at_least_float32
from srt_distill.ensemble.shifts import Border, Shift, pad_images, pixel_sources, slice_view
from srt_distill.extractor import Extractor, strides

WideBorder = Literal["counted", "edge", "circular"]
"""What becomes of tokens that come from beyond the frame.

counted: left out; every token is the mean over the views that show it (what lies there in the image is the repeated
edge pixel).
edge, circular: as for `srt_distill.ensemble.shifts.Border`.
"""


def whole_patch_shifts(patch: int, radius: int = 1) -> tuple[Shift, ...]:
    """List all shifts of up to `radius` whole patches along each axis, in reading order.

    Args:
        patch: p, in pixels.
        radius: In patches; PH-Reg's views lie within 15% of the image, 2 patches of the 14 at 224 pixels.

    Raises:
        ValueError: If the radius is negative.
    """
    if radius < 0:
        raise ValueError(f"radius of {radius} patches is negative; use 0 for a single pass, or a positive number")
    offsets = [patch * step for step in range(-radius, radius + 1)]
    return tuple((dy, dx) for dy in offsets for dx in offsets)


@dataclass(frozen=True)
class WideShiftMean:
    """Mean features of shifted views, each moved back, itself an extractor, with a pass per shift.

    For shifts below a patch and border "edge" it is SRT. The mean over whole-patch shifts and flips is
    `WideShiftMean(PerturbationMean(extract), whole_patch_shifts(16))`.

    Attributes:
        extract: The extractor whose features are averaged.
        shifts: (dy, dx) in pixels, shorter than the image.
        border: What becomes of tokens from beyond the frame.

    Raises:
        ValueError: If there is no shift.
    """

    extract: Extractor
    shifts: tuple[Shift, ...]
    border: WideBorder = "counted"

    def __post_init__(self) -> None:
        if not self.shifts:
            raise ValueError("no shift was given; a mean needs at least one, such as (0, 0)")

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Average to fp32 maps (B, C, h, w), one per layer; of one token for the whole image, the plain mean.

        Raises:
            ValueError: If a shift leaves nothing of the image, or no view shows a token.
        """
        size = images.shape[-2], images.shape[-1]
        margin = max(max(abs(dy), abs(dx)) for dy, dx in self.shifts)
        if any(abs(dy) >= size[0] or abs(dx) >= size[1] for dy, dx in self.shifts):
            raise ValueError(
                f"shifts of up to {margin} pixels leave nothing of an image of {size[0]}x{size[1]}; use less"
            )
        padded = images if self.border == "circular" else pad_images(images, margin, "edge")
        total: list[Tensor] = []
        count: list[Tensor] = []
        for shift in self.shifts:
            circular = self.border == "circular"
            batch = images.roll(shift, (-2, -1)) if circular else slice_view(padded, shift, margin, size).contiguous()
            maps = self.extract(batch)
            moved = [
                _move_back(at_least_float32(features), shift, patch, self.border)
                for features, patch in zip(maps, strides(batch, maps), strict=True)
            ]
            total = [a + b for a, (b, _) in zip(total, moved, strict=True)] if total else [m for m, _ in moved]
            count = [a + b for a, (_, b) in zip(count, moved, strict=True)] if count else [c for _, c in moved]
        if any((seen == 0).any() for seen in count):
            raise ValueError("some tokens are in no view; add the shift (0, 0), or use border 'edge'")
        return tuple(features / seen for features, seen in zip(total, count, strict=True))


def _move_back(features: Tensor, shift: Shift, patch: int, border: WideBorder) -> tuple[Tensor, Tensor]:
    """Move a map back, zero where nothing lies, and say how much of each token's area (h, w) something lies on."""
    if features.shape[-2:] == (1, 1):
        return features, features.new_ones(1, 1)
    rule: Border = "zeros" if border == "counted" else border
    down, right = (
        axis_shares(step, num_tokens, patch, rule).to(features)
        for step, num_tokens in zip(shift, features.shape[-2:], strict=True)
    )
    return torch.einsum("rh,bchw,sw->bcrs", down, features, right), down.sum(1)[:, None] * right.sum(1)


def axis_shares(shift: int, num_tokens: int, patch: int, border: Border) -> Float[Tensor, "n n"]:
    """Make the matrix that moves a row of n tokens back by a shift of any length and pools it onto their grid.

    Args:
        shift: Pixels along this axis.
        num_tokens: n.
        patch: p, pixels per token.
        border: Rule at the first and last token; "zeros_counted" needs all shifts and is not for single ones.

    Returns:
        (n, n), float64: the share of each token's pixels that come from each token.
    """
    token, weight = pixel_sources(shift, num_tokens, patch, border, 0)
    pixels = torch.nn.functional.one_hot(token, num_tokens) * weight[:, None]
    return pixels.view(num_tokens, patch, num_tokens).mean(1)
