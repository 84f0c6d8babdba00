"""Two distorted crops of the same picture, and which token of one shows what a token of the other shows.

Shape legend: B pictures, H W pixels of a picture, c pixels along each side of a crop, n tokens of a crop, p patch side.

Coordinates are (column, row) in pixels, from a picture's or a crop's corner; geometry is exact, so no label is needed.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

SCALES = (0.7, 1.5)  # picture pixels to a crop pixel
STRETCH = 0.15  # largest logarithm of the change of aspect
TURN = 0.4  # radians
OFFSET = 0.25  # of two crops' centres from a common one, of the crop's side


@dataclass(frozen=True)
class View:
    """A batch of crops: picture position = matrix · (crop position − c/2) + centre."""

    images: Float[Tensor, "B 3 c c"]
    matrix: Float[Tensor, "B 2 2"]
    centre: Float[Tensor, "B 2"]


def draw_views(pictures: UInt8[Tensor, "B 3 H W"], crop: int, generator: torch.Generator) -> tuple[View, View]:
    """Two overlapping crops of every picture, each turned, mirrored, scaled and recoloured on its own.

    Args:
        pictures: What to crop.
        crop: c, pixels.
        generator: Source of all choices.

    Returns:
        Two views with values from 0 to 1.
    """
    images = pictures.float() / 255
    num, _, height, width = images.shape
    sides = torch.tensor([width, height])
    shared = crop / 2 + torch.rand(num, 2, generator=generator) * (sides - crop)
    return _draw_view(images, shared, crop, generator), _draw_view(images, shared, crop, generator)


def _draw_view(
    images: Float[Tensor, "B 3 H W"], shared: Float[Tensor, "B 2"], crop: int, generator: torch.Generator
) -> View:
    num, _, height, width = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(num, *shape, generator=generator)

    scale = torch.exp(uniform(math.log(SCALES[0]), math.log(SCALES[1])))
    stretch, angle = torch.exp(uniform(-STRETCH, STRETCH)), uniform(-TURN, TURN)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = angle.cos(), angle.sin()
    to_right = torch.stack([cosine, sine], dim=-1) * (mirror * scale * stretch)[:, None]
    to_bottom = torch.stack([-sine, cosine], dim=-1) * (scale / stretch)[:, None]
    matrix = torch.stack([to_right, to_bottom], dim=-1)
    centre = shared + uniform(-OFFSET, OFFSET, 2) * crop
    positions = grid_positions(crop, 1) - crop / 2
    places = positions @ matrix.transpose(1, 2) + centre[:, None]
    grid = (places / torch.tensor([width, height]) * 2 - 1).unflatten(1, (crop, crop))
    cropped = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return View(_recolour(cropped, generator), matrix, centre)


def _recolour(images: Float[Tensor, "B 3 c c"], generator: torch.Generator) -> Float[Tensor, "B 3 c c"]:
    """Change brightness, contrast, saturation and white balance and add noise, each image by its own amount."""

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(len(images), channels, 1, 1, generator=generator)

    images = images * torch.exp(uniform(-0.4, 0.4))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * torch.exp(uniform(-0.5, 0.5))
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.0, 1.6)
    images = images * torch.exp(uniform(-0.2, 0.2, channels=3))
    noise = torch.randn(images.shape, generator=generator)
    return (images + uniform(0.0, 0.03) * noise).clamp(0, 1)


def grid_positions(crop: int, patch: int) -> Float[Tensor, "n 2"]:
    """Centres of a crop's patches, row by row, from the crop's corner."""
    side = (torch.arange(crop // patch) + 0.5) * patch
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def match_tokens(first: View, second: View, patch: int) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """For every token of the first view, the token of the second whose patch holds its centre.

    Args:
        first: Where the tokens come from.
        second: Where to look for them.
        patch: p.

    Returns:
        Indices of tokens of the second view, and whether the centre lies inside that view at all.
    """
    crop = first.images.shape[-1]
    places = (grid_positions(crop, patch) - crop / 2) @ first.matrix.transpose(1, 2) + first.centre[:, None]
    offsets = torch.linalg.solve(second.matrix, (places - second.centre[:, None]).transpose(1, 2)).transpose(1, 2)
    positions = offsets + crop / 2
    inside = ((positions >= 0) & (positions < crop)).all(-1)
    cells = (positions / patch).floor().long().clamp(0, crop // patch - 1)
    return cells[..., 1] * (crop // patch) + cells[..., 0], inside
