"""Crops of real pixels, as datasets: random ones to train on, centred ones to measure on.

Shape legend: 3 colours, H W pixels of the window: the crop and its margin on all four sides.

A shift by up to d pixels of a crop with a margin of d pixels reads the image itself, never padding. Which crop is taken
is a function of (seed, epoch, image) alone: not of the process that loads it, nor of what was loaded before.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

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

    pixels: UInt8[Tensor, "3 H W"]
    unreadable: dict[str, str]


def resize_to_hold(image: Image.Image, height: int, width: int, scale: float) -> Image.Image:
    """Resize by `scale`, or by the smallest larger factor at which the image holds the window.

    Both sides are resized by the same factor (bicubic, antialiased), so that no image is distorted; a small one is
    enlarged to where its scarce side just fits.

    Args:
        image: the image.
        height: least height of the result in pixels.
        width: least width of the result in pixels.
        scale: resize factor where the image is large enough: 0.5 halves the sides.
    """
    factor = max(scale, height / image.height, width / image.width)
    size = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def cut_window(image: Image.Image, top: int, left: int, height: int, width: int, flip: bool) -> UInt8[Tensor, "3 H W"]:
    """Cut a window out of an RGB image, mirrored left to right if asked."""
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    if flip:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def load_first_readable(source: ImageSource, candidates: Iterable[int]) -> tuple[Image.Image, dict[str, str]]:
    """Load the first of some images that can be read.

    Args:
        source: where they come from.
        candidates: their indices, in order of preference.

    Returns:
        The image, and the names of those that could not be read before it, with the reasons.

    Raises:
        OSError: If none can be read; it says how many were tried and why the first failed.
    """
    unreadable: dict[str, str] = {}
    for index in candidates:
        try:
            return source.load(index), unreadable
        except OSError as error:
            unreadable[source.name(index)] = str(error)
    first = next(iter(unreadable.values()), "there is none")
    raise OSError(f"none of {len(unreadable)} images can be read ({first}); check the files or choose another source")


class TrainingCrops(Dataset[Crop]):
    """A random window of each training image. One that cannot be read is replaced by another, drawn at random.

    Args:
        source: where the images come from.
        indices: the training part.
        height: of the window, in pixels.
        width: of the window, in pixels.
        scale: see `resize_to_hold`.
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
        """The window of one visit; a bare position stands for the first visit of epoch 0."""
        epoch, position, repeat = draw if isinstance(draw, Draw) else Draw(0, draw, 0)
        if self.views is not None:
            epoch, repeat = (epoch + repeat) % self.views, 0
        random = np.random.default_rng((self.seed, epoch, int(self.indices[position]), repeat))
        image, unreadable = load_first_readable(self.source, self._candidates(position, random))
        image = resize_to_hold(image, self.height, self.width, self.scale)
        top = int(random.integers(image.height - self.height + 1))
        left = int(random.integers(image.width - self.width + 1))
        flip = self.flip and bool(random.integers(2))
        return Crop(cut_window(image, top, left, self.height, self.width, flip), unreadable)

    def _candidates(self, position: int, random: np.random.Generator) -> Iterator[int]:
        """The image itself, and only if that fails all the others in random order.

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
        scale: see `resize_to_hold`.
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
        image, unreadable = load_first_readable(self.source, map(int, candidates))
        image = resize_to_hold(image, self.height, self.width, self.scale)
        top, left = (image.height - self.height) // 2, (image.width - self.width) // 2
        return Crop(cut_window(image, top, left, self.height, self.width, flip=False), unreadable)
