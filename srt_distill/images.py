"""Pixels in: the one decoder (a file to an upright 8-bit RGB image) and the one division by 255.

Shape legend: C channels, H W pixels.

Everything in the package that looks at a picture decodes it here, with one error for all that can go wrong, and hands
on bytes. Numbers are made of them by a `Normalization`, which travels with the features it belongs to.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Real
from PIL import Image, ImageOps
from torch import Tensor

DECODING_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow and its format plug-ins raise on damaged, truncated, absurdly large or unsupported files."""


@contextmanager
def unreadable_as_os_error(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad data into the `OSError` that `ImageSource.load` promises.

    Args:
        name: what the message calls the image.

    Raises:
        OSError: If the body raises one of `DECODING_ERRORS`.
    """
    try:
        yield
    except DECODING_ERRORS as error:
        raise OSError(f"cannot read image {name}: {str(error) or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright (EXIF orientation) and into 8-bit RGB.

    16-bit grey is divided by 257, so that white stays white (Pillow's own conversion clips nearly all of it to white).
    Transparency is dropped, not blended.

    Raises:
        ValueError: If the pixels are floating point or wider than 16 bits, whose range no rule can guess.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"pixel values {values.min()} to {values.max()} exceed 16 bits; save as 8-bit RGB first")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save as 8-bit RGB first")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def open_rgb(path: Path, name: str) -> Image.Image:
    """Decode an image file.

    Args:
        path: the file.
        name: what an error calls it.

    Raises:
        OSError: If the file is missing, damaged or not an image Pillow reads.
    """
    with unreadable_as_os_error(name), Image.open(path) as image:
        return to_rgb(image)


@dataclass(frozen=True)
class Normalization:
    """Bytes to the numbers a model was trained on: (x / 255 - mean) / std.

    Attributes:
        mean: Per channel, of values in 0 to 1.
        std: Per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Real[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Normalise images of values 0 to 255, as bytes or as whole floating-point numbers."""
        return (images / 255 - self._channels(self.mean, images)) / self._channels(self.std, images)

    def undo(self, images: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Normalised images back to values in 0 to 1."""
        return images * self._channels(self.std, images) + self._channels(self.mean, images)

    @staticmethod
    def _channels(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "C 1 1"]:
        return torch.tensor(values, device=like.device)[:, None, None]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
