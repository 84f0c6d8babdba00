"""Pixels in: the one decoder (a file to an upright 8-bit RGB image) and the one division by 255.

Shape legend: C channels, H W pixels.

Everything in the package that looks at a picture decodes it here, with one error for all that can go wrong, and hands
on bytes. Numbers are made of them by a `Normalization`, which travels with the features it belongs to.

    read_image(path, name)          a file as an upright 8-bit RGB image
    to_rgb(image)                   the same of an image that is open
    upright_size(path, name)        height and width of that, from the file's header
    turn_upright(image)             orientation alone, for what must keep its mode (masks)
    require_readable(paths)         files that are cut off or damaged named before work is spent on the others
    opened_picture(path)            a file opened and not decoded, no larger than is allowed
    unreadable_as_os_error(name)    what any decoder raises, as an OSError that names the image
"""

import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Real, UInt8
from PIL import ExifTags, Image
from torch import Tensor

try:
    from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
except ImportError:
    READS_HEIF = False
else:
    register_heif_opener()
    READS_HEIF = True

MAX_PIXELS = 2**28
"""Pixels of the largest picture that is decoded unasked: 268 million, 1 GiB in Pillow's 4 bytes per pixel. A damaged or
malicious header may claim any size."""

BIT_DEPTHS = (8, 10, 12, 16)
"""What integer pixels wider than a byte are taken for: the first that holds them all."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""


_warned_of: list[str] = []  # the image whose range was warned of, in this process

_size_check = threading.Lock()  # Pillow's own is a global


@contextmanager
def unreadable_as_os_error(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad data into the `OSError` that `ImageSource.load` promises.

    Decoders raise anything: RuntimeError (AVIF), SyntaxError (PNG), TypeError, AssertionError, errors of their own. So
    nothing but decoding belongs into the body. Interrupts and a lack of memory pass through: they say nothing of the
    image.

    Args:
        name: what the message calls the image.

    Raises:
        OSError: If the body raises an `Exception` other than a `MemoryError`.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(f"cannot read image {name}: {str(error) or type(error).__name__}") from error


def read_image(
    path: Path, name: str | None = None, *, bit_depth: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a file into an upright 8-bit RGB image; of an animation the first picture.

    Args:
        path: the file.
        name: what messages call it; its path by default.
        bit_depth: see `to_rgb`.
        max_pixels: the largest picture that is decoded; 4 bytes of memory per pixel.

    Raises:
        OSError: If the file is missing, no regular file, damaged, too large, or not an image Pillow reads.
    """
    name = str(path) if name is None else name
    with unreadable_as_os_error(name), opened_picture(path, max_pixels) as image:
        return to_rgb(image, name, bit_depth)


def upright_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """Read height and width in pixels of what `read_image` gives, from the file's header alone.

    Args:
        path: the file.
        name: what messages call it; its path by default.

    Raises:
        OSError: If the file is missing, no regular file, or its header is not an image's.
    """
    with unreadable_as_os_error(str(path) if name is None else name):
        require_regular(path)
        with _open_any_size(path) as image:
            # Pillow gives a TIFF's size as it is shown, others' as it is stored
            turned = _orientation(image) >= 5 and image.format != "TIFF"
            return (image.width, image.height) if turned else (image.height, image.width)


def require_readable(paths: Iterable[Path]) -> None:
    """Decode pictures and forget them: what is cut off or damaged shows before work is spent.

    Args:
        paths: the files.

    Raises:
        OSError: If one of them is missing or damaged, or no image Pillow reads; names the first.
    """
    waiting = list(paths)
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(waiting), 1024):  # a future costs more memory than a path
            for _ in threads.map(_decode_file, waiting[start : start + 1024]):
                pass


def _decode_file(path: Path) -> None:
    with unreadable_as_os_error(str(path)), opened_picture(path) as image:
        decode(image)


def decode(image: Image.Image) -> None:
    """Decode an open image, a JPEG at an eighth of its size: all of the file is read, in a fraction of the time."""
    image.draft(None, (1, 1))  # type: ignore[arg-type]
    image.load()


def to_rgb(image: Image.Image, name: str = "image", bit_depth: int | None = None) -> Image.Image:
    """Turn an image upright (EXIF orientation) and into 8-bit RGB.

    Pixels wider than a byte are brought to 0 to 255: integers as numbers of `bit_depth` bits or, without it, of the
    least of 8, 10, 12 and 16 bits that holds all of this image; floating-point ones as 0 to 1, 0 to 255 or 0 to 65535,
    the first that holds them, not-a-number as black. Where less than an eighth of that range is used, the guess may be
    wrong: a warning names the first such image. Transparency is dropped, not blended.

    Args:
        image: as Pillow opens it.
        name: what a warning calls it.
        bit_depth: bits of integer pixels that are stored in 16 or 32.

    Raises:
        ValueError: If there are negative values, or values beyond `bit_depth` or beyond 16 bits.
    """
    cut_to_bytes = is_cut_to_bytes(image)
    image = turn_upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_bytes(np.asarray(image), name, bit_depth))
    elif cut_to_bytes:
        _check_range(float(np.asarray(image).max()), 255, name)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def turn_upright(image: Image.Image) -> Image.Image:
    """Decode an image and turn it as its EXIF orientation says, in its own mode.

    Only that one tag is read and nothing is written back: what else the metadata hold, and whether it can be parsed, is
    of no account. Orientations that do not exist count as none.

    Args:
        image: as Pillow opens it.
    """
    turn = TURNS.get(_orientation(image))
    image.load()
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Take the EXIF orientation out of an image: Pillow's TIFF reader would turn it by itself, and rewrite its XMP."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        if not isinstance(image.info.get(key), (bytes if key == "xmp" else str)):
            image.info.pop(key, None)
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        for tag in list(exif):
            del exif[tag]
        return int(orientation)
    except MemoryError:
        raise
    except Exception:  # whatever a parser of metadata raises
        return 1


def require_regular(path: Path) -> None:
    """Refuse pipes and devices, on which a reader would wait.

    Raises:
        ValueError: If it is one.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse what would not fit the memory, before it is decoded.

    Raises:
        ValueError: If there are more pixels than `max_pixels`.
    """
    pixels = width * height
    if pixels > max_pixels:
        raise ValueError(
            f"{width}x{height} are {pixels / 1e6:.0f} million pixels, more than max_pixels={max_pixels}; cut it into "
            "tiles, or raise max_pixels (4 bytes of memory per pixel)"
        )


@contextmanager
def opened_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a file, not decoded yet.

    Args:
        path: the file.
        max_pixels: the largest picture that is opened.

    Raises:
        OSError: If the file is missing, or not an image Pillow reads.
        ValueError: If it is no regular file, or larger.
    """
    require_regular(path)
    with _open_any_size(path) as image:
        require_size(image.width, image.height, max_pixels)
        yield image


@contextmanager
def _open_any_size(path: Path) -> Iterator[Image.Image]:
    """Open a picture without Pillow's check of its size, which has one limit for the whole process."""
    with _size_check:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def is_cut_to_bytes(image: Image.Image) -> bool:
    """Tell whether Pillow reads only the high bytes of an image's pixels: colours of 16 bits."""
    return any(";16" in str(tile) for tile in getattr(image, "tile", ())) and not image.mode.startswith("I")


def _to_bytes(values: Real[np.ndarray, "H W"], name: str, bit_depth: int | None) -> UInt8[np.ndarray, "H W"]:
    """Scale wide pixels to bytes, as `to_rgb` says."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        white = next((white for white in (1, 255, 65535) if high <= white), None)
    else:
        depths = BIT_DEPTHS if bit_depth is None else (bit_depth,)
        white = next((2**depth - 1 for depth in depths if high < 2**depth), None)
    if low < 0 or white is None:
        allowed = "16 bits" if bit_depth is None else f"bit_depth={bit_depth}"
        raise ValueError(f"pixel values {low:g} to {high:g} are not within 0 and {allowed}; save it as 8-bit RGB first")
    _check_range(high, white, name)
    return np.rint(values * (255 / white)).astype(np.uint8)


def _check_range(high: float, white: int, name: str) -> None:
    """Warn of the first image that looks as if its range had been guessed wrong."""
    if 0 < high < white / 8 and not _warned_of:
        _warned_of.append(name)
        warnings.warn(
            f"image {name} uses {high:g} of {white} levels, less than an eighth: if it is not meant to be this dark, "
            "set bit_depth, or save it as 8-bit RGB; more such images are not named",
            stacklevel=4,
        )


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
        """Normalise images of values 0 to 255, as bytes or as floating-point numbers.

        Raises:
            ValueError: If they have other channels than mean and std.
        """
        if images.shape[-3] != len(self.mean):
            raise ValueError(
                f"these images have {images.shape[-3]} channels, mean and std are of {len(self.mean)}; give images of "
                f"{len(self.mean)} channels, or a backbone for {images.shape[-3]}"
            )
        return (images / 255 - self._channels(self.mean, images)) / self._channels(self.std, images)

    def undo(self, images: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Normalised images back to values in 0 to 1."""
        return images * self._channels(self.std, images) + self._channels(self.mean, images)

    @staticmethod
    def _channels(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "C 1 1"]:
        return torch.tensor(values, device=like.device)[:, None, None]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
