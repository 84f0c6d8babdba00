"""Label images: stored values to classes.

Shape legend: H W pixels, h w tokens, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from srt_distill.images import unreadable_as_os_error
from srt_distill.tasks.canvas import Placement

VOID = -1
"""Class of pixels that do not count."""

_UNKNOWN = -2
_NUM_VALUES = 1 << 16


@dataclass(frozen=True, eq=False)
class LabelRule:
    """What the values of label images mean.

    Attributes:
        classes: Names of the classes.
        meaning: Class of each stored value, or `VOID`.
        others: Class of all other values; None refuses them.
    """

    classes: tuple[str, ...]
    meaning: Mapping[int, int]
    others: int | None = None

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.full(_NUM_VALUES, _UNKNOWN if self.others is None else self.others, dtype=np.int16)
        for value, label in self.meaning.items():
            table[value] = label
        return table

    def read(self, path: Path) -> Int[np.ndarray, "H W"]:
        """Read the class of every pixel; of palette images the index counts, not the colour.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no label image, or has a value of no known meaning.
        """
        with unreadable_as_os_error(str(path)), Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
        if values.ndim != 2 or (values.dtype.kind not in "bu" and not (values.dtype.kind == "i" and values.min() >= 0)):
            raise ValueError(
                f"{path} has pixels of mode {mode}; a label image has one whole number per pixel (grey or palette)"
            )
        if values.max(initial=0) >= _NUM_VALUES:
            raise ValueError(f"{path} has value {values.max()}; labels have at most 16 bits")
        labels = self._table[values.astype(np.int64)]
        if (labels == _UNKNOWN).any():
            unknown = np.unique(values[labels == _UNKNOWN])
            raise ValueError(
                f"{path} has label values {', '.join(map(str, unknown[:8]))}, known are "
                f"{_ranges(sorted(self.meaning))}; name all classes, or mark these pixels void"
            )
        return labels.astype(np.int64)


def resize_labels(labels: Int[np.ndarray, "_ _"], size: tuple[int, int]) -> Int[np.ndarray, "H W"]:
    """Resize labels by nearest neighbour."""
    rows, columns = (((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip(size, labels.shape, strict=True))
    return labels[rows[:, None], columns]


def token_labels(
    labels: Int[np.ndarray, "H W"], placement: Placement, grid: tuple[int, int], num_classes: int
) -> Float[Tensor, "K h w"]:
    """Share of each class among the pixels of every token that count; all 0 where none does.

    Args:
        labels: Of the image, at any size.
        placement: Of the image in the canvas that the tokens tile.
        grid: Rows and columns of tokens.
        num_classes: K.
    """
    on_canvas = np.full(placement.canvas, VOID)
    top, left, height, width = placement.box or (0, 0, *placement.canvas)
    on_canvas[top : top + height, left : left + width] = resize_labels(labels, (height, width))
    pixels = F.one_hot(torch.from_numpy(on_canvas).clamp(min=VOID) + 1, num_classes + 1).permute(2, 0, 1)[1:]
    cells = placement.canvas[0] // grid[0], placement.canvas[1] // grid[1]
    shares = F.avg_pool2d(pixels.float()[None], cells)[0]
    return shares / shares.sum(0).clamp(min=0.5 / (cells[0] * cells[1]))


def _ranges(values: list[int]) -> str:
    """Whole numbers in short, such as "0 to 11, 255"."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1][-1] = value
        else:
            parts.append([value, value])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in parts)
