"""Made images for the examples of tasks that compare whole images.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_instances(folder: Path, parts: Sequence[str], side: int = 64) -> None:
    """Write made instances: noise in a colour of their own, an image per part.

    Args:
        folder: Where `<part>/<class>/` go.
        parts: A folder per image, such as "gallery"; empty for none.
        side: In pixels.
    """
    generator = np.random.default_rng(0)
    for name, color in (("amber", (200, 140, 20)), ("jade", (20, 160, 90)), ("ruby", (190, 20, 60))):
        for index, part in enumerate(parts):
            pixels = np.clip(generator.normal(color, 40, (side, side, 3)), 0, 255).astype(np.uint8)
            path = folder / part / name / f"{name}_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
