"""Images of any number of channels: all of a file's bands, none left out, none made up, at their own depth.

Shape legend: H W pixels, K channels.

    as_colours(images)       of any number of channels, as RGB to look at
    Bands                    one Pillow picture per channel, cropped and resized as one
    read_bands(path, K)      a file of K channels: what Pillow reads, TIFF of any number of bands, NumPy's .npy
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real, Shaped
from PIL import Image
from torch import Tensor

from srt_distill.images import (
    MAX_PIXELS,
    TURNS,
    is_cut_to_bytes,
    opened_picture,
    require_regular,
    require_size,
    turn_upright,
    unreadable_as_os_error,
)

ARRAY_ENDING = ".npy"
TIFF_ENDINGS = (".tif", ".tiff")

WHITE = {"uint8": 255.0, "uint16": 65535.0, "float16": 1.0, "float32": 1.0, "float64": 1.0}
"""What is taken for 1, by the type of the numbers: the largest of unsigned integers."""

_PLAIN_MODES = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}


@dataclass(frozen=True, eq=False)
class Bands:
    """An image of any number of channels, with what crops need of a Pillow image.

    Attributes:
        pictures: One per channel, all of one size and mode: L (bytes) or F, whose 0 to 255 is what bytes are.
    """

    pictures: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pictures[0].size

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pictures[0].width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pictures[0].height

    def crop(self, box: tuple[int, int, int, int]) -> "Bands":
        """Cut out a box (left, top, right, bottom)."""
        return Bands(tuple(picture.crop(box) for picture in self.pictures))

    def resize(
        self,
        size: tuple[int, int],
        resample: Image.Resampling = Image.Resampling.BICUBIC,
        box: tuple[float, float, float, float] | None = None,
    ) -> "Bands":
        """Resize to (width, height), each channel by itself: none is taken for transparency."""
        return Bands(tuple(picture.resize(size, resample, box) for picture in self.pictures))

    def transpose(self, turn: Image.Transpose) -> "Bands":
        """Turn or mirror."""
        return Bands(tuple(picture.transpose(turn) for picture in self.pictures))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Shaped[np.ndarray, "H W K"]:
        """Give NumPy the pixels, channels last."""
        return np.stack([np.asarray(picture, dtype) for picture in self.pictures], axis=-1)


def as_colours(images: Real[Tensor, "*B K H W"]) -> Real[Tensor, "*B 3 H W"]:
    """Take the first three channels for red, green and blue; of one or two the first for grey. Only to look at.

    Args:
        images: of values 0 to 255; what lies outside is clipped.
    """
    channels = [0, 1, 2] if images.shape[-3] >= 3 else [0, 0, 0]
    return images[..., channels, :, :].clamp(0, 255)


def read_bands(
    path: Path,
    num_channels: int,
    name: str | None = None,
    *,
    white: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Bands:
    """Read all channels of a file.

    A TIFF is read by tifffile, of its first series, bands first or last; an .npy holds (H, W, K), or (H, W) for one
    channel, and is never unpickled; anything else is what Pillow makes of it: grey, grey and transparency, colours,
    colours and transparency or CMYK. Values v are 255 v / `white` afterwards, so that a mean and std of images in 0 to
    1 are those of v / `white`; bytes stay bytes. Not-a-number, which stands for no data, is 0.

    Args:
        path: the file.
        num_channels: how many it must have.
        name: what messages call it; its path by default.
        white: the value that stands for 1; larger and negative ones are kept. By default the largest of 8 or 16 bits,
            and 1 of floating-point numbers, which must then not be exceeded.
        max_pixels: the largest picture that is read.

    Raises:
        OSError: If the file is missing, damaged, too large, of another number of channels, or its numbers do not say
            what stands for 1.
    """
    with unreadable_as_os_error(str(path) if name is None else name):
        require_regular(path)
        ending = path.suffix.lower()
        if ending == ARRAY_ENDING:
            bands = _scale(_read_array(path, num_channels, max_pixels), white)
        elif ending in TIFF_ENDINGS:
            values, orientation = _read_tiff(path, num_channels, max_pixels)
            bands = _scale(values, white)
            bands = bands.transpose(TURNS[orientation]) if orientation in TURNS else bands
        else:
            bands = _scale(_read_picture(path, num_channels, max_pixels), white)
    return bands


def _read_array(path: Path, num_channels: int, max_pixels: int) -> Shaped[np.ndarray, "H W K"]:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise ValueError(f"its shape is {values.shape}; an image is (height, width, channels)")
    _require_channels(values.shape[2], num_channels, f" (its shape is {values.shape}, channels last)")
    require_size(values.shape[1], values.shape[0], max_pixels)
    return np.asarray(values)


def _read_tiff(path: Path, num_channels: int, max_pixels: int) -> tuple[Shaped[np.ndarray, "H W K"], int]:
    """Read the first series, and the number of its orientation."""
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("TIFF of any number of bands needs tifffile: pip install 'srt-distill[bands]'") from error
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes, sizes = series.axes, series.shape
        others = [axis for axis in range(len(axes)) if axes[axis] not in "YX"]
        if "Y" not in axes or "X" not in axes or len(others) > 1:
            raise ValueError(f"its shape is {sizes} ({axes}); an image has height, width and bands")
        _require_channels(sizes[others[0]] if others else 1, num_channels, "")
        require_size(sizes[axes.index("X")], sizes[axes.index("Y")], max_pixels)
        values = series.asarray()
        tag = series.pages[0].tags.get("Orientation")  # type: ignore[union-attr]
    order = [axes.index("Y"), axes.index("X"), *others]
    values = np.transpose(values, order)
    return values if others else values[..., None], 1 if tag is None else int(tag.value)


def _read_picture(path: Path, num_channels: int, max_pixels: int) -> Shaped[np.ndarray, "H W K"]:
    with opened_picture(path, max_pixels) as image:
        if is_cut_to_bytes(image):
            raise ValueError("only the upper half of its 16 bits would be read; save it as TIFF or .npy")
        image = turn_upright(image)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image = image.convert(_PLAIN_MODES[image.mode]) if image.mode in _PLAIN_MODES else image
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    if image.mode.startswith("I") and values.max(initial=0) < 2**16 and values.min(initial=0) >= 0:
        values = values.astype(np.uint16)  # Pillow widens 16 bits of grey
    _require_channels(values.shape[2], num_channels, f" (mode {image.mode})")
    return values


def _require_channels(found: int, wanted: int, remark: str) -> None:
    if found != wanted:
        raise ValueError(
            f"it has {found} channel{'s' * (found != 1)}{remark}, num_channels is {wanted}; none is left out or made "
            "up: convert it, or choose other images or another backbone"
        )


def _scale(values: Shaped[np.ndarray, "H W K"], white: float | None) -> Bands:
    """Make pictures of numbers, as `read_bands` says."""
    values = values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values
    kind = values.dtype.name
    if kind == "uint8" and white in (None, 255):
        return _split(values)
    if white is None and kind not in WHITE:
        raise ValueError(f"its numbers are {kind}, of which none stands for 1 by itself; set white")
    one = WHITE[kind] if white is None else white
    numbers = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("it holds infinite values; replace them")
    if white is None and (low < 0 or high > one):
        raise ValueError(f"its values are {low:g} to {high:g}, not within 0 and {one:g}; set white")
    return _split(numbers * np.float32(255 / one))


def _split(values: Shaped[np.ndarray, "H W K"]) -> Bands:
    return Bands(tuple(Image.fromarray(np.ascontiguousarray(values[..., k])) for k in range(values.shape[2])))
