"""What the untouched classifier head of a backbone says about photographs: the harm that distillation does to it.

Shape legend: none, tensors stay inside the class.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn


class Photos:
    """Photographs as the classifier wants them, with the class that a file name tells and what the original says.

    Args:
        folder: Image files.
        model: The original, whose configuration says how to resize and normalise.
    """

    def __init__(self, folder: Path, model: nn.Module) -> None:
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        transform: Any = create_transform(**resolve_data_config({}, model=model))
        self.images = torch.stack([transform(Image.open(path).convert("RGB")) for path in self.files])
        names = ImageNetInfo("imagenet-1k").label_names()
        self.labels = [names.index(n) if (n := path.name.partition("_")[0]) in names else None for path in self.files]

        self.original = self.predict(model)

    @torch.inference_mode()
    def predict(self, model: nn.Module) -> Tensor:
        """Top-1 class of every photograph."""
        return torch.cat([model(batch).argmax(1) for batch in self.images.split(16)])

    def harm(self, model: nn.Module) -> dict[str, float | None]:
        """Agreement of a model's head with the original's, and its top-1; None where no class is known."""
        return self.rate(self.predict(model))

    def rate(self, predicted: Tensor, only: Sequence[int] | None = None) -> dict[str, float | None]:
        """The same from what `predict` gave; of all photographs, or of those numbers only."""
        chosen = list(range(len(self.labels)) if only is None else only)
        right = [self.labels[i] == predicted[i].item() for i in chosen if self.labels[i] is not None]
        agreement = (predicted[chosen] == self.original[chosen]).float().mean().item()
        return {"agreement": agreement, "top1": statistics.fmean(right) if right else None}
