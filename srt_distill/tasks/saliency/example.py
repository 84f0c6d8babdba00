"""Made photographs with one salient ellipse each, in ECSSD's layout.

Shape legend: none.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, NUM_IMAGES = 96, 64, 3  # pixels


def write_example(root: Path) -> None:
    """Write photographs and masks, under `img` and `gt`."""
    generator = np.random.default_rng(0)
    for folder in ("img", "gt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(NUM_IMAGES):
        coarse = Image.fromarray(generator.integers(0, 90, (8, 12, 3), dtype=np.uint8))
        image, mask = coarse.resize((WIDTH, HEIGHT)), Image.new("L", (WIDTH, HEIGHT))
        left, top = 8 + 16 * index, 8 + 8 * index
        ellipse = (left, top, left + 40, top + 32)
        ImageDraw.Draw(image).ellipse(ellipse, fill=(230, 150 + 30 * index, 40))
        ImageDraw.Draw(mask).ellipse(ellipse, fill=255)
        image.save(root / "img" / f"{index:04d}.jpg", quality=95)
        mask.save(root / "gt" / f"{index:04d}.png")
