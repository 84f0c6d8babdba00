"""Which sub-patch shifts, how an image is shifted, and how a token map is shifted back.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels, d shift radius in pixels.

A shift (dy, dx) moves the picture down by dy and right by dx pixels. Shifting a token map back means, literally: repeat
every token over its p x p pixels, move those pixels by (-dy, -dx), and average each p x p cell (paper, Sect. 2.1 and
Algorithm 1). Because |dy|, |dx| < p, a cell then holds pixels of at most two tokens along each axis, so the whole
operation is two taps an axis whose weights are counted pixels: nothing is ever brought to pixel resolution.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Shift = tuple[int, int]
"""(dy, dx) in pixels."""

Border = Literal["edge", "zeros", "zeros_counted", "reference", "circular"]
"""What lies beyond the frame, for images and for token maps alike.

edge: the outermost pixel, and token, repeated (the paper's "edge-padded shift"); the weights of a token sum to 1.
zeros: nothing, and the sum is divided by the number of shifts, so tokens at the border come out too small.
zeros_counted: nothing, and every pixel is divided by the number of shifts that reached it (n_b of Algorithm 1).
reference: as `zeros`, with the unshifted view counted twice: what the authors' public code computes. For parity only.
circular: what leaves on one side comes in on the other, as if the picture were a tile. Every token then has the weight
1 in all; for a network that ends in a mean over positions SRT equals the mean of its outputs.
"""

Subset = Literal["full", "checkerboard", "grid16", "grid9"]
"""Which shifts of the grid of a radius are used; numbers of shifts are those of radius 3.

full: all (2d+1)², 49.
checkerboard: every other one, those with even dy + dx; 2d(d+1) + 1, 25.
grid16: four evenly spread offsets an axis, from -d to d; 16.
grid9: the offsets -d, 0 and d an axis; 9.

All are symmetric about the unshifted view, so that no direction is favoured. The mean over a subset is not that of the
full grid: it is a cheaper SRT of its own.
"""


def grid_shifts(radius: int, border: Border = "edge") -> tuple[Shift, ...]:
    """All (2d+1)² integer shifts of up to `radius` pixels (paper, Algorithm 1), in reading order.

    Args:
        radius: d, in pixels; the paper's "perturbation level". 0 gives the single unshifted view.
        border: Under "reference" the identity is listed a second time, as the authors' code counts it.

    Raises:
        ValueError: If the radius is negative.
    """
    if radius < 0:
        raise ValueError(f"shift radius {radius} is negative; use 0 for a single pass or a positive number of pixels")
    offsets = range(-radius, radius + 1)
    shifts = tuple((dy, dx) for dy in offsets for dx in offsets)
    return (*shifts, (0, 0)) if border == "reference" else shifts


def subset_shifts(radius: int, subset: Subset) -> tuple[Shift, ...]:
    """List the shifts of a named part of the grid, in reading order.

    Args:
        radius: d, in pixels; 0 gives the single unshifted view under every name.
        subset: Which part.

    Raises:
        ValueError: If the radius is negative, or has too few offsets for the subset.
    """
    grid = grid_shifts(radius)
    if subset == "full" or radius == 0:
        return grid
    if subset == "checkerboard":
        return tuple(shift for shift in grid if sum(shift) % 2 == 0)
    num = 4 if subset == "grid16" else 3
    if num > 2 * radius + 1:
        raise ValueError(
            f"subset {subset!r} takes {num} offsets an axis, radius {radius} has {2 * radius + 1}; use 'full' or a "
            "larger radius"
        )
    offsets = {round(-radius + 2 * radius * i / (num - 1)) for i in range(num)}
    return tuple((dy, dx) for dy, dx in grid if dy in offsets and dx in offsets)


def lattice_shifts(radius: int, num_shifts: int, offset: Shift = (0, 0)) -> tuple[Shift, ...]:
    """Distinct shifts spread evenly over the grid: a rank-1 lattice, moved by an offset modulo 2d+1.

    Args:
        radius: d, in pixels.
        num_shifts: k, how many shifts.
        offset: Steps (down, right) that the lattice is moved by, wrapping round. Over all (2d+1)² offsets every point
            of the lattice visits every shift of the grid once.

    Raises:
        ValueError: If `num_shifts` is not between 1 and (2d+1)².
    """
    side = 2 * radius + 1
    if not 1 <= num_shifts <= side * side:
        raise ValueError(
            f"{num_shifts} shifts a step cannot be drawn from the {side * side} of radius {radius}; "
            f"choose 1 to {side * side}"
        )
    golden = sorted(range(1, side + 1), key=lambda step: abs(step - 0.618 * side))
    step = next(step for step in golden if math.gcd(step, side) == 1)
    lattice = ((i * side // num_shifts, i * step) for i in range(num_shifts))
    return tuple(((y + offset[0]) % side - radius, (x + offset[1]) % side - radius) for y, x in lattice)


def draw_shifts(radius: int, num_shifts: int, generator: torch.Generator) -> tuple[Shift, ...]:
    """Draw distinct shifts that cover the grid evenly, every one of the (2d+1)² equally likely.

    A lattice is moved by a uniform offset. Each of its points is then uniform over the grid, so a target averaged over
    the draw is an unbiased estimate of the full average; the lattice only makes the shifts of one draw unlike each
    other, which lowers the variance below that of independent draws.

    Args:
        radius: d, in pixels.
        num_shifts: k, how many shifts to draw.
        generator: Source of the random offset.

    Raises:
        ValueError: If `num_shifts` is not between 1 and (2d+1)².
    """
    down, right = (int(v) for v in torch.randint(2 * radius + 1, (2,), generator=generator))
    return lattice_shifts(radius, num_shifts, (down, right))


def pad_images(images: Float[Tensor, "B C H W"], radius: int, border: Border) -> Float[Tensor, "B C H2 W2"]:
    """Pad by `radius` pixels a side: with edge pixels for "edge", the other side's for "circular", else zeros."""
    if radius == 0:
        return images
    modes = {"edge": "replicate", "circular": "circular"}
    return F.pad(images, (radius, radius, radius, radius), mode=modes.get(border, "constant"))


def slice_view(
    padded: Float[Tensor, "B C H2 W2"], shift: Shift, margin: int, size: tuple[int, int]
) -> Float[Tensor, "B C H W"]:
    """Move the image by `shift`, as a slice of the padded image: no pixel is copied.

    Args:
        padded: Image with `margin` more pixels on every side.
        shift: (dy, dx) in pixels, no larger than `margin`.
        margin: Pixels round the image.
        size: (H, W) of the view.
    """
    top, left = margin - shift[0], margin - shift[1]
    return padded[..., top : top + size[0], left : left + size[1]]


def pixel_sources(
    shift: int, num_tokens: int, patch: int, border: Border, radius: int
) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
    """Along one axis, which token each pixel shows after a token map is moved back, and with what weight.

    Args:
        shift: Pixels along this axis, |shift| < patch.
        num_tokens: n, tokens along this axis.
        patch: p, pixels per token along this axis.
        border: Rule at the first and last token.
        radius: d; under "zeros_counted" the grid of shifts -d…d that will be averaged.

    Returns:
        For each of the n p pixels a token, 0 to n - 1, and a float64 weight: 1, or 0 where nothing lies, or under
        "zeros_counted" the number of shifts divided by the number of those that reach the pixel.
    """
    pixels = torch.arange(num_tokens * patch)
    last = num_tokens * patch - 1
    source = pixels + shift
    if border == "circular":
        source = source.remainder(last + 1)
    weight = torch.ones_like(source) if border == "edge" else (source >= 0) & (source <= last)
    weight = weight.double()
    if border == "zeros_counted":
        reached = 2 * radius + 1 - (radius - pixels).clamp(min=0) - (radius - (last - pixels)).clamp(min=0)
        weight = weight * (2 * radius + 1) / reached
    return source.clamp(0, last).div(patch, rounding_mode="floor"), weight


def axis_taps(
    shift: int, num_tokens: int, patch: int, border: Border, radius: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Weights that move a row of tokens back by `shift` pixels: out[r] = stay[r]·F[r] + move[r]·F[r + sign(shift)].

    Args:
        shift: Pixels along this axis, |shift| < patch.
        num_tokens: n, tokens along this axis.
        patch: p, pixels per token along this axis.
        border: Rule at the first and last token.
        radius: d; under "zeros_counted" the grid of shifts -d…d that will be averaged.

    Returns:
        stay and move, each (n,), float64. Under "edge" they sum to 1; inside the frame they are 1-|s|/p and |s|/p.
    """
    token, weight = pixel_sources(shift, num_tokens, patch, border, radius)
    home = torch.arange(num_tokens * patch).div(patch, rounding_mode="floor")
    stay = (weight * (token == home)).view(num_tokens, patch).mean(1)
    move = (weight * (token != home)).view(num_tokens, patch).mean(1)
    return stay, move


def unshift_tokens(
    features: Float[Tensor, "B C h w"], shift: Shift, patch: int, border: Border = "edge", radius: int = 0
) -> Float[Tensor, "B C h w"]:
    """Move a token map back by a sub-patch shift and pool it onto its grid again (paper, Eq. 2; closed form).

    The mean of the results over `grid_shifts(radius, border)` is the SRT feature map under every border rule.

    Args:
        features: (B, C, h, w) extracted from the image moved by `shift`.
        shift: (dy, dx) in pixels.
        patch: p, pixels per token along both axes.
        border: What lies beyond the frame.
        radius: d of the full grid; needed by "zeros_counted" alone.

    Raises:
        ValueError: If a shift is not smaller than the patch.
    """
    if max(abs(shift[0]), abs(shift[1])) >= patch:
        raise ValueError(
            f"shift {shift} is not smaller than the patch side {patch}; a whole patch adds no sub-token "
            f"information: use a shift radius of at most {patch - 1}"
        )
    for axis, step in ((-2, shift[0]), (-1, shift[1])):
        # the counted border re-weights unshifted tokens too: pixels near the frame's edge were reached less often
        if step == 0 and border != "zeros_counted":
            continue
        stay, move = axis_taps(step, features.shape[axis], patch, border, radius)
        shape = (-1, 1) if axis == -2 else (1, -1)
        stay, move = (weight.to(features).view(shape) for weight in (stay, move))
        # a token rolled in from the far side meets a weight of 0, but under "circular", which means it
        features = stay * features + move * features.roll(-1 if step > 0 else 1, axis)
    return features


def check_radius(radius: int, patch: int, name: str) -> None:
    """Refuse a radius that a backbone's patches have no room for, before any pass.

    Args:
        radius: d, in pixels.
        patch: p, the smallest of the chosen layers, in pixels.
        name: Of the backbone.

    Raises:
        ValueError: If the radius is not smaller than the patch.
    """
    if radius >= patch:
        raise ValueError(
            f"shift radius {radius} is not smaller than the patch side {patch} of {name}; use at most {patch - 1}"
        )


def check_cells(shift: int, patch: int, scale: int) -> None:
    """Refuse a grid of cells inside tokens that is none, or a shift that a token has no room for.

    Args:
        shift: Pixels along one axis.
        patch: p, pixels a token.
        scale: s, cells a token.

    Raises:
        ValueError: If the cells are not whole pixels, or the shift is not smaller than the patch.
    """
    if patch % scale:
        fitting = ", ".join(str(s) for s in range(1, patch + 1) if patch % s == 0)
        raise ValueError(f"scale {scale} does not divide the patch side {patch}; use one of {fitting}")
    if abs(shift) >= patch:
        raise ValueError(f"shift {shift} is not smaller than the patch side {patch}; use at most {patch - 1}")


def check_product_grid(shifts: Sequence[Shift], radius: int, border: Border) -> None:
    """Refuse a shift set whose per-pixel counts are not those of the full grid.

    Raises:
        ValueError: If the border is "zeros_counted" and `shifts` is not the full grid of `radius`.
    """
    if border == "zeros_counted" and sorted(shifts) != list(grid_shifts(radius)):
        raise ValueError(
            f"border 'zeros_counted' needs all {(2 * radius + 1) ** 2} shifts of radius {radius}, not {len(shifts)}; "
            "use border 'edge' with sampled shifts"
        )
