"""An image file to the bytes that a candidate takes, and what a head makes of them back onto the image.

Shape legend: B images, K channels of an output, H W pixels, h w tokens, p pixels per token.

Dense tasks look at the whole image: it may be shrunk, and is padded all round to a multiple of p, as DINOv2's
evaluations do. A `Placement` remembers where in the padded canvas the image lies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from srt_distill.ensemble.shifts import Shift
from srt_distill.extractor import strides
from srt_distill.images import Normalization, read_image
from srt_distill.tasks.candidate import Candidate

PROBE_SIDE = 224
"""Pixels; a multiple of the patch sides in use, 7, 8, 14, 16, 28 and 32."""

Padding = Literal["stretch", "crop"]
"""What becomes of an output where the image was padded.

stretch: the output of the padded canvas is resized to the image, as DINOv2's evaluations do: up to p/2 pixels off.
crop: its padding is cut off first.
"""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a canvas.

    Attributes:
        canvas: Rows and columns of the canvas, in pixels.
        box: Top, left, height and width of the image in it; None takes the whole canvas for the image.
    """

    canvas: tuple[int, int]
    box: tuple[int, int, int, int] | None = None

    def onto(self, output: Float[Tensor, "B K _h _w"], size: tuple[int, int]) -> Float[Tensor, "B K H W"]:
        """Bring an output of the canvas onto the image, bilinearly.

        Args:
            output: Of any resolution, covering the canvas.
            size: Rows and columns of the image that the output is wanted for.
        """
        if self.box is not None and self.box != (0, 0, *self.canvas):
            top, left, height, width = self.box
            output = F.interpolate(output, size=self.canvas, mode="bilinear", align_corners=False)
            output = output[..., top : top + height, left : left + width]
        return F.interpolate(output, size=size, mode="bilinear", align_corners=False)


def shrunk_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Bring the short side of a size, rows and columns, to `short_side` pixels; None leaves it as it is."""
    if short_side is None:
        return size
    scale = short_side / min(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def read_bytes(path: Path, short_side: int | None = None) -> UInt8[Tensor, "1 3 H W"]:
    """Read an image as bytes, its short side brought to `short_side` pixels with Pillow's bilinear filter.

    Raises:
        OSError: If it cannot be read.
    """
    image = read_image(path, str(path))
    height, width = shrunk_size((image.height, image.width), short_side)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].contiguous()


def pad_to_patch(
    image: UInt8[Tensor, "1 3 H W"], patch: int, normalization: Normalization, padding: Padding = "stretch"
) -> tuple[UInt8[Tensor, "1 3 H2 W2"], Placement]:
    """Pad an image all round to a multiple of the patch side; an odd pixel goes to the bottom or right.

    Args:
        image: Bytes.
        patch: p.
        normalization: Its mean, to the nearest byte, is the padding's colour: 0 after normalisation, as the reference.
        padding: What becomes of outputs there.

    Returns:
        The canvas and where the image lies in it.
    """
    height, width = image.shape[-2:]
    rows, columns = -height % patch, -width % patch
    canvas = (height + rows, width + columns)
    if not rows and not columns:
        return image, Placement(canvas)
    top, left = rows // 2, columns // 2
    color = torch.tensor([round(255 * value) for value in normalization.mean], dtype=torch.uint8)
    padded = color[None, :, None, None].expand(1, 3, *canvas).clone()
    padded[..., top : top + height, left : left + width] = image
    return padded, Placement(canvas, (top, left, height, width) if padding == "crop" else None)


def shift_pixels(image: Shaped[Tensor, "B K H W"], shift: Shift) -> Shaped[Tensor, "B K H W"]:
    """Move an image, or an output of its size, down and right by (dy, dx) pixels, edges repeated."""
    height, width = image.shape[-2:]
    rows = (torch.arange(height, device=image.device) - shift[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - shift[1]).clamp(0, width - 1)
    return image[..., rows, :][..., columns]


def find_patch(candidate: Candidate, read: Callable[[Tensor], tuple[Tensor, ...]]) -> int:
    """Find out what image sides must be multiples of, with one black image.

    Args:
        candidate: Whose features.
        read: Its maps of an image in bytes, as the task reads them; maps of one token are left out.

    Raises:
        ValueError: If the candidate does not take that image.
    """
    probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8)
    try:
        return max(strides(probe, tuple(m for m in read(probe) if m.shape[-2:] != (1, 1))))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"the patch side of {candidate.name} cannot be found: it does not take an image of "
            f"{PROBE_SIDE}x{PROBE_SIDE} pixels ({error}); choose a model or layer that does"
        ) from error
