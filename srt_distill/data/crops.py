"""Crops of real pixels, as datasets: random ones to train on, centred ones to measure on.

Shape legend: K channels (3 colours), H W pixels of the window: the crop and its margin on all four sides.

A shift by up to d pixels of a crop with a margin of d pixels reads the image itself, never padding. Which crop is taken
is a function of (seed, epoch, image) alone: not of the process that loads it, nor of what was loaded before.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Real
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from srt_distill.data.bands import Bands
from srt_distill.data.source import ImageSource


class Draw(NamedTuple):
    """One visit to a training image."""

    epoch: int
    position: int
    """Place in the training part."""
    repeat: int
    """How often the image came before in this epoch: an epoch is filled up to whole batches."""


class Crop(NamedTuple):
    """A window, and which images could not be read on the way to it: their names and the reasons."""

    pixels: Real[Tensor, "K H W"]
    unreadable: dict[str, str]


def size_to_hold(image: Image.Image | Bands, height: int, width: int, scale: float) -> tuple[int, int]:
    """Give the height and width to which an image is resized: by `scale`, or by the least larger factor that suffices.

    Both sides are resized by the same factor, so that no image is distorted; a small one is enlarged to where its
    scarce side just holds the window.

    Args:
        image: the image.
        height: least height of the result in pixels.
        width: least width of the result in pixels.
        scale: resize factor where the image is large enough: 0.5 halves the sides.
    """
    factor = max(scale, height / image.height, width / image.width)
    return max(height, round(image.height * factor)), max(width, round(image.width * factor))


def cut_window(
    image: Image.Image | Bands, size: tuple[int, int], top: int, left: int, height: int, width: int, flip: bool = False
) -> Real[Tensor, "K H W"]:
    """Cut a window out of an image as it is when resized, without resizing the rest.

    Bicubic and antialiased; filters reach beyond the window, so that its pixels are those of the whole image resized.

    Args:
        image: the image.
        size: height and width of the resized image.
        top: first row of the window in the resized image.
        left: first column.
        height: of the window in pixels.
        width: of the window in pixels.
        flip: whether it is mirrored left to right.
    """
    if size == (image.height, image.width):
        window = image.crop((left, top, left + width, top + height))
    else:
        down, across = image.height / size[0], image.width / size[1]
        right, bottom = min(image.width, (left + width) * across), min(image.height, (top + height) * down)
        box = (left * across, top * down, right, bottom)
        window = image.resize((width, height), Image.Resampling.BICUBIC, box)
    pixels = np.asarray(window)
    if flip:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def find_first_readable(
    source: ImageSource, candidates: Iterable[int], unreadable: dict[str, str]
) -> tuple[int, Image.Image | Bands]:
    """Load the first of some images that can be read.

    Args:
        source: where they come from.
        candidates: their indices, in order of preference.
        unreadable: takes the names of those that cannot be read, with the reasons.

    Returns:
        The index of the one that can, and the image.

    Raises:
        OSError: If none can be read; it says how many were tried and why the first failed.
    """
    tried, first = 0, "there is none"
    for index in candidates:
        try:
            return index, source.load(index)
        except OSError as error:
            unreadable[source.name(index)] = str(error)
            tried, first = tried + 1, str(error) if not tried else first
    raise OSError(f"none of {tried} images can be read ({first}); check the files or choose another source")


class TrainingCrops(Dataset[Crop]):
    """A random window of each training image. One that cannot be read is replaced by another, drawn at random.

    Args:
        source: where the images come from.
        indices: the training part.
        height: of the window, in pixels.
        width: of the window, in pixels.
        scale: see `size_to_hold`.
        flip: whether half of the windows are mirrored left to right.
        seed: of all crops, not negative.
        views: how many fixed windows an image has, shown in turn; None for new ones in every epoch. View v is what
            epoch v would show without this limit.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: Int64[np.ndarray, " training"],
        height: int,
        width: int,
        scale: float,
        flip: bool,
        seed: int,
        views: int | None = None,
    ) -> None:
        self.source = source
        self.indices = indices
        self.height = height
        self.width = width
        self.scale = scale
        self.flip = flip
        self.seed = seed
        self.views = views

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw | int) -> Crop:
        """Give the window of one visit; a bare position stands for the first visit of epoch 0."""
        epoch, position, repeat = draw if isinstance(draw, Draw) else Draw(0, draw, 0)
        if self.views is not None:
            epoch, repeat = (epoch + repeat) % self.views, 0
        random = np.random.default_rng((self.seed, epoch, int(self.indices[position]), repeat))
        unreadable: dict[str, str] = {}
        _, image = find_first_readable(self.source, self._candidates(position, random), unreadable)
        size = size_to_hold(image, self.height, self.width, self.scale)
        top = int(random.integers(size[0] - self.height + 1))
        left = int(random.integers(size[1] - self.width + 1))
        flip = self.flip and bool(random.integers(2))
        return Crop(cut_window(image, size, top, left, self.height, self.width, flip), unreadable)

    def _candidates(self, position: int, random: np.random.Generator) -> Iterator[int]:
        """Yield the image itself, and only if that fails all the others in random order.

        Not simply the next one: where a whole stretch is damaged, its first healthy neighbour would be seen in place of
        each.
        """
        yield int(self.indices[position])
        yield from map(int, random.permutation(np.delete(self.indices, position)))


class HeldOutCrops(Dataset[Crop]):
    """The centred window of each held-out image. One that cannot be read is replaced by the next in order.

    Args:
        source: where the images come from.
        indices: the held-out part.
        height: of the window, in pixels.
        width: of the window, in pixels.
        scale: see `size_to_hold`.
    """

    def __init__(
        self, source: ImageSource, indices: Int64[np.ndarray, " held_out"], height: int, width: int, scale: float
    ) -> None:
        self.source = source
        self.indices = indices
        self.height = height
        self.width = width
        self.scale = scale

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Crop:
        candidates = chain(self.indices[position:], self.indices[:position])
        unreadable: dict[str, str] = {}
        _, image = find_first_readable(self.source, map(int, candidates), unreadable)
        size = size_to_hold(image, self.height, self.width, self.scale)
        top, left = (size[0] - self.height) // 2, (size[1] - self.width) // 2
        return Crop(cut_window(image, size, top, left, self.height, self.width), unreadable)
