"""Made videos in the DAVIS layout, for a run of seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

from srt_distill.files import write_file
from srt_distill.visualization.overlays import object_palette

SIZE, NUM_FRAMES, SIDE = (64, 96), 5, 20  # height and width, frames, side of a square, in pixels


def write_example(root: Path) -> None:
    """Write two training and two validation videos of five frames, each with two moving squares."""
    generator = np.random.default_rng(0)
    for split, names in (("train", ("ants", "bees")), ("val", ("cats", "dogs"))):
        write_file(root / "ImageSets" / "2017" / f"{split}.txt", "\n".join(names) + "\n")
        for name in names:
            _write_video(root, name, generator)


def _write_video(root: Path, name: str, generator: np.random.Generator) -> None:
    frames, masks = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
    frames.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(generator.integers(0, 255, (8, 12, 3), dtype=np.uint8))
    background = np.asarray(coarse.resize((SIZE[1], SIZE[0])))
    for t in range(NUM_FRAMES):
        image, ids = background.copy(), np.zeros(SIZE, np.uint8)
        for label, (top, left) in enumerate([(8 + 3 * t, 10 + 4 * t), (30, 70 - 5 * t)], start=1):
            square = slice(top, top + SIDE), slice(left, left + SIDE)
            image[square], ids[square] = (60 * label, 200 - 60 * label, 40), label
        Image.fromarray(image).save(frames / f"{t:05d}.jpg", quality=95)
        mask = Image.fromarray(ids)
        mask.putpalette(object_palette().tobytes())
        mask.save(masks / f"{t:05d}.png")
