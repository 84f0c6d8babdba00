"""Images in the size that a model takes, decoded in other processes, those of one size together.

Shape legend: B images, K bands, H W pixels, p patch side in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Real
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srt_distill.backbone import BackboneInfo
from srt_distill.data import ImageSource
from srt_distill.data.loading import ignore_signals


@dataclass(frozen=True)
class Batch:
    """Images of one size.

    Attributes:
        numbers: Their places in the source.
        pixels: (B, K, H, W) of 0 to 255.
    """

    numbers: list[int]
    pixels: Real[Tensor, "B K H W"]


def choose_size(size: tuple[int, int], short_side: int, info: BackboneInfo) -> tuple[int, int]:
    """Choose the size that an image is resized to: whole patches, and no larger than it is.

    Args:
        size: Of the image, height and width.
        short_side: Pixels that the shorter side is brought to at most.
        info: The model; one of a fixed size takes that.
    """
    if info.fixed_size is not None:
        return info.fixed_size
    scale, patch = min(1.0, short_side / min(size)), info.patch_size
    height, width = (max(patch, round(side * scale / patch) * patch) for side in size)
    return height, width


class ResizedImages(Dataset[tuple[int, Tensor | str]]):
    """Images of a source, each resized; what cannot be read is its reason instead.

    Args:
        source: The images.
        numbers: Which of them.
        short_side: See `choose_size`.
        info: The model.
    """

    def __init__(self, source: ImageSource, numbers: Sequence[int], short_side: int, info: BackboneInfo) -> None:
        self.source, self.numbers, self.short_side, self.info = source, numbers, short_side, info

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        number = self.numbers[index]
        try:
            image = self.source.load(number)
        except OSError as error:
            return number, str(error)
        height, width = choose_size((image.height, image.width), self.short_side, self.info)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return number, torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).contiguous()


def load_batches(images: ResizedImages, batch_size: int, num_workers: int) -> Iterator[Batch | tuple[int, str]]:
    """Give images in order, neighbours of one size together, and one by one the numbers of those that cannot be read.

    Args:
        images: What is loaded.
        batch_size: Images together, at most.
        num_workers: Processes that decode; 0 for this one.
    """
    loader = DataLoader(images, batch_size=None, num_workers=num_workers, worker_init_fn=ignore_signals)
    waiting: list[tuple[int, Tensor]] = []

    def together() -> Batch:
        return Batch([number for number, _ in waiting], torch.stack([pixels for _, pixels in waiting]))

    for number, pixels in loader:
        if isinstance(pixels, str):
            yield number, pixels
            continue
        if waiting and (len(waiting) == batch_size or waiting[0][1].shape != pixels.shape):
            yield together()
            waiting = []
        waiting.append((number, pixels))
    if waiting:
        yield together()
