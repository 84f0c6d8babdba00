"""Features of images that are too large for one pass: in tiles that overlap, blended.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels.

Attention looks at all that a pass is shown, so that a tile's features are not exactly the image's. Two things bring
them nearer: every tile has its crop of the whole image's position embedding, and where tiles overlap one fades into
the other. docs/adapting.md has how near that is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from srt_distill.backbone import WholePositions

DEFAULT_OVERLAP = 0.25
"""Share of a tile that it overlaps its neighbour by where nothing is said."""


@dataclass(frozen=True)
class Tiling:
    """Squares that an image is read in.

    Attributes:
        side: Of a tile, in pixels.
        overlap: Pixels that neighbours share at least.
        patch: Patch side in pixels; both are multiples of it.
    """

    side: int
    overlap: int
    patch: int

    def __post_init__(self) -> None:
        for name, value, least in (("tile", self.side, self.patch), ("overlap", self.overlap, 0)):
            if value < least or value % self.patch:
                near = max(least, round(value / self.patch) * self.patch)
                raise ValueError(
                    f"{name} {value} is not a multiple of patch side {self.patch} of at least {least}; give {near}"
                )
        if self.overlap >= self.side:
            raise ValueError(f"overlap {self.overlap} is not below tile {self.side}; give less")


def choose_tiling(tile: int, overlap: int | None, patch: int) -> Tiling:
    """Make a tiling of what was asked for; without an overlap it is a quarter of the tile, in whole patches.

    Raises:
        ValueError: If sides are not whole patches, or tiles overlap by all of them.
    """
    quarter = int(tile * DEFAULT_OVERLAP) // patch * patch
    return Tiling(tile, quarter if overlap is None else overlap, patch)


def place_tiles(length: int, side: int, overlap: int) -> list[int]:
    """Place tiles along an axis, the last one at its end.

    Args:
        length: Of the axis.
        side: Of a tile.
        overlap: That neighbours share at least.

    Returns:
        Where each begins, ascending; one at 0 where a tile holds the whole axis.
    """
    return [0] if length <= side else [*range(0, length - side, side - overlap), length - side]


def fade(starts: list[int], index: int, side: int) -> Float[Tensor, " side"]:
    """Weigh the cells of a tile along an axis: 1, falling towards neighbours over what is shared with them."""
    place = torch.arange(side) + 1.0
    weights = torch.ones(side)
    if index > 0 and (shared := starts[index - 1] + side - starts[index]) > 0:
        weights = weights.minimum(place / (shared + 1))
    if index + 1 < len(starts) and (shared := starts[index] + side - starts[index + 1]) > 0:
        weights = weights.minimum(place.flip(0) / (shared + 1))
    return weights


def read_in_tiles(
    read: Callable[[Tensor], Tensor],
    model: nn.Module,
    images: Real[Tensor, "B K H W"],
    tiling: Tiling,
) -> Float[Tensor, "B C h w"]:
    """Read the map of images tile by tile: memory holds the images, the map, and the passes of one tile.

    Args:
        read: Images (B, K, t, u) to maps (B, C, h, w), with as many pixels per cell everywhere.
        model: What it reads, so that its positions are those of the whole image.
        images: Of sides in whole patches.
        tiling: The tiles.

    Returns:
        The map, in fp32 on the CPU; `read`'s own where a tile holds the images.

    Raises:
        ValueError: If a tile has no whole number of cells, or these do not fit where tiles are placed.
    """
    size = (images.shape[-2], images.shape[-1])
    side = (min(tiling.side, size[0]), min(tiling.side, size[1]))
    if side == size:
        return read(images).float().cpu()
    patch = tiling.patch
    positions = WholePositions(model, (size[0] // patch, size[1] // patch))
    tops, lefts = (place_tiles(length, tiling.side, tiling.overlap) for length in size)
    blended = weights = torch.empty(0)
    cell = 0
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            window = images[..., top : top + side[0], left : left + side[1]]
            with positions.of_part(top // patch, left // patch, side[0] // patch, side[1] // patch):
                part = read(window).float().cpu()
            rows, columns = part.shape[-2:]
            if not cell:
                cell = side[0] // rows
                fits = cell * rows == side[0] and cell * columns == side[1]
                if not fits or any(length % cell for length in (*size, *tops, *lefts)):
                    raise ValueError(
                        f"a tile of {side[0]}x{side[1]} pixels has a map of {rows}x{columns}, which fits nowhere in an "
                        f"image of {size[0]}x{size[1]}; give a tile and an overlap that are multiples of the stride"
                    )
                blended = part.new_zeros(*part.shape[:2], size[0] // cell, size[1] // cell)
                weights = part.new_zeros(size[0] // cell, size[1] // cell)
            down = fade([start // cell for start in tops], i, rows)
            weight = down[:, None] * fade([start // cell for start in lefts], j, columns)
            here = (..., slice(top // cell, top // cell + rows), slice(left // cell, left // cell + columns))
            blended[here] += part * weight
            weights[here] += weight
    return blended / weights
