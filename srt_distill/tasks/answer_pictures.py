"""What a ranking looks like: the first answers in a row, right ones framed in green.

Shape legend: H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from srt_distill.images import read_image

RIGHT, WRONG = (38, 160, 88), (204, 62, 54)
SIDE = 112  # pixels of one answer
FRAME = 5


def square_picture(image: Image.Image, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """Show an image whole on a white square."""
    return np.asarray(ImageOps.pad(image, (side, side), color=(255, 255, 255)))


def framed(picture: UInt8[np.ndarray, "H W 3"], right: bool) -> UInt8[np.ndarray, "H W 3"]:
    """Frame a picture: green for right, red for wrong."""
    result = picture.copy()
    inner = result[FRAME:-FRAME, FRAME:-FRAME].copy()
    result[:] = RIGHT if right else WRONG
    result[FRAME:-FRAME, FRAME:-FRAME] = inner
    return result


def answer_strip(files: Sequence[Path], right: Sequence[bool]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Show answers side by side, the best first."""
    return np.concatenate(
        [framed(square_picture(read_image(path)), ok) for path, ok in zip(files, right, strict=True)], axis=1
    )
