"""A task of one file, as a user would write it: how bright is an image, from the mean of its features?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srt_distill.images import read_image
from srt_distill.tasks import Item, Outcome, Score, Sheet, Task, TaskInfo


@dataclass(frozen=True)
class Brightness(Task):
    """Mean brightness of images, against that of their pixels.

    Args:
        root: Folder of images.
        bias: Added to every answer.
    """

    root: Path
    bias: float = 0.0

    @property
    def info(self):
        return TaskInfo("brightness", "1", "Mean brightness", "image", (Score("error", False),), "nobody")

    def items(self) -> Sequence[Item]:
        return [Item(path.stem, (path,)) for path in sorted(self.root.glob("*.png"))]

    def judge(self, candidate, prepared: Mapping, item: Item, folder: Path) -> Outcome:
        image = self.view(candidate, item)
        answer = candidate.maps(image)[-1].mean().item() + self.bias
        return Outcome({"error": abs(answer - candidate.normalization(image).mean().item())})

    def view(self, candidate, item: Item) -> torch.Tensor:
        return torch.from_numpy(np.array(read_image(item.files[0]))).permute(2, 0, 1)[None]

    def draw(self, item: Item, outcomes: Mapping, folders: Mapping) -> Sheet:
        image = np.array(read_image(item.files[0]))
        return Sheet((("brightness", {"image": image} | {name: image for name in outcomes}),))

    @classmethod
    def example(cls, folder: Path) -> "Brightness":
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(7):
            pixels = np.random.default_rng(number).integers(0, 40 * number + 10, (32, 48, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"image-{number}.png")
        return cls(folder)
