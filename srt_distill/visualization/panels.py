"""Pictures side by side: resizing by whole tokens, captions, grids and contact sheets.

Shape legend: H W pixels, h w tokens. A picture is an RGB array of bytes (H, W, 3).
"""

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Picture = UInt8[np.ndarray, "_ _ 3"]
"""An RGB picture (H, W, 3) in bytes."""

PAPER, INK = (255, 255, 255), (28, 28, 32)
GAP = 6  # pixels between pictures


def to_picture(colors: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Bytes of a colour tensor.

    Args:
        colors: RGB in 0..1; values outside are clipped.

    Returns:
        The picture, on the CPU.
    """
    values = colors.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return values.permute(1, 2, 0).contiguous().cpu().numpy()


def resize_picture(picture: Picture, height: int, width: int, blocks: bool = False) -> Picture:
    """Resizes a picture.

    Args:
        picture: RGB picture.
        height: height in pixels.
        width: width in pixels.
        blocks: True shows every token as a sharp block (nearest neighbour), False filters (Lanczos), for photographs.

    Returns:
        The resized picture.
    """
    if picture.shape[:2] == (height, width):
        return picture
    method = Image.Resampling.NEAREST if blocks else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


def panel_grid(
    rows: Sequence[Sequence[Picture | None]],
    columns: Sequence[str] = (),
    row_names: Sequence[str] = (),
    gap: int = GAP,
) -> Picture:
    """Lays pictures out in a grid with captions above the columns and before the rows.

    Args:
        rows: pictures; None leaves a cell empty. A cell is as large as the largest picture of its row and column.
        columns: captions above the columns, or none.
        row_names: captions before the rows, or none.
        gap: pixels between the cells.

    Returns:
        One picture on white.

    Raises:
        ValueError: If there is no picture, or the captions are not one a column or row.
    """
    num_columns = max((len(row) for row in rows), default=0)
    if not any(cell is not None for row in rows for cell in row):
        raise ValueError("no picture given; a grid needs at least one")
    if columns and len(columns) != num_columns:
        raise ValueError(f"{len(columns)} column captions for {num_columns} columns; give one a column")
    if row_names and len(row_names) != len(rows):
        raise ValueError(f"{len(row_names)} row captions for {len(rows)} rows; give one a row")

    heights = [max((cell.shape[0] for cell in row if cell is not None), default=0) for row in rows]
    stacks = zip_longest(*rows)
    widths = [max((cell.shape[1] for cell in stack if cell is not None), default=0) for stack in stacks]
    font = _font(max(11, min(22, max(widths) // 20)))
    wrapped = [_wrap(caption, font, width) for caption, width in zip(columns, widths, strict=False)]
    top = max((caption.count("\n") + 1 for caption in wrapped), default=0) * _line_height(font) + gap * bool(columns)
    side = max((int(font.getlength(name)) for name in row_names), default=0) + 3 * gap * bool(row_names)

    total = (side + sum(widths) + gap * (num_columns - 1), top + sum(heights) + gap * (len(rows) - 1))
    canvas = Image.new("RGB", total, PAPER)
    draw = ImageDraw.Draw(canvas)
    lefts = [side + sum(widths[:i]) + gap * i for i in range(num_columns)]
    tops = [top + sum(heights[:i]) + gap * i for i in range(len(rows))]
    for caption, x, width in zip(wrapped, lefts, widths, strict=False):
        draw.multiline_text((x + width / 2, top - gap), caption, INK, font, anchor="md", align="center")
    for name, y, height in zip(row_names, tops, heights, strict=False):
        draw.text((side - 2 * gap, y + height / 2), name, INK, font, anchor="rm")
    for row, y in zip(rows, tops, strict=True):
        for cell, x in zip(row, lefts, strict=False):
            if cell is not None:
                canvas.paste(Image.fromarray(cell), (x, y))
    return np.asarray(canvas)


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[str] = (), num_columns: int = 4, width: int = 320
) -> Picture:
    """Many pictures at a glance, each shrunk to the same width, its caption written above it.

    Args:
        pictures: RGB pictures of any size.
        captions: one a picture, or none.
        num_columns: pictures a row.
        width: width of each in pixels.

    Returns:
        One picture on white.

    Raises:
        ValueError: If there is no picture or the captions are not one a picture.
    """
    if captions and len(captions) != len(pictures):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures; give one a picture")
    cells: list[Picture | None] = []
    for i, picture in enumerate(pictures):
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        cell = resize_picture(picture, height, width)
        cells.append(panel_grid([[cell]], [captions[i]]) if captions else cell)
    return panel_grid([cells[i : i + num_columns] for i in range(0, len(cells), num_columns)], gap=4 * GAP)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along on every machine."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    """Pixels from one line of text to the next, as PIL spaces them."""
    return int(sum(font.getmetrics())) + 4


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break a caption between words so that it fits a width."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
