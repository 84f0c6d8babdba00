"""Small made data sets in the layouts that the segmentation tasks read.

Shape legend: none.
"""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_rectangles(folder: Path) -> None:
    """Write six training and two test images of coloured rectangles in the layout `lists`, with a void frame."""
    draws = np.random.default_rng(0)
    colors = np.array([(60, 120, 200), (200, 80, 60), (80, 180, 80)])
    for split, number in (("train", 6), ("test", 2)):
        lines = []
        for kind in ("", "annot"):
            (folder / f"{split}{kind}").mkdir(parents=True, exist_ok=True)
        for index in range(number):
            labels = np.zeros((64, 64), np.uint8)
            for label in (1, 2):
                top, left = draws.integers(0, 32, 2)
                labels[top : top + 32, left : left + 32] = label
            picture = colors[labels] + draws.normal(0, 12, (64, 64, 3))
            labels[:2] = 3
            image, annotation = f"{split}/{index:03d}.png", f"{split}annot/{index:03d}.png"
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / image)
            Image.fromarray(labels).save(folder / annotation)
            lines.append(f"{image} {annotation}")
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "classes.txt").write_text("sky\nhouse\ntree\nvoid\n", encoding="utf-8")


def draw_discs(folder: Path) -> None:
    """Write six training and two test images of two bright discs in the layout `instances`."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for split, number in (("train", 6), ("test", 2)):
        names = [f"cell{index}" for index in range(number)]
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.csv").write_text("\n".join(["name", *names]) + "\n", encoding="utf-8")
        for name in names:
            mask = np.zeros((64, 64), np.uint16)
            for index, (top, left) in enumerate(draws.integers(12, 52, (2, 2)), start=1):
                mask[(y - top) ** 2 + (x - left) ** 2 < 144] = index * 300
            picture = 40 + 150 * (mask[..., None] > 0) + draws.normal(0, 10, (64, 64, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{name}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{name}.png")
