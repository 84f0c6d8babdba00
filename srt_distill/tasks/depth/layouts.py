"""Pairs of images and depth maps on disk.

Shape legend: H W pixels.

A split is one of two things below the root:

- a folder with `rgb` and `depth` (or `images` and `depths`), files of the same stem making a pair: 7-Scenes, NYU-v2;
- a text file with a line `image depth` per pair, further words ignored: the lists of NYU-v2 that came with BTS.

Depth is a 16-bit PNG of whole numbers, so many to the metre; some mean that nothing is known.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from srt_distill.data.lists import read_text
from srt_distill.images import unreadable_as_os_error, upright_size

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm")
FOLDERS = (("rgb", "depth"), ("images", "depths"))


@dataclass(frozen=True)
class DepthPair:
    """An image and its depth map.

    Attributes:
        name: Unique in its split.
        image: The photograph.
        depth: Its depth.
    """

    name: str
    image: Path
    depth: Path


def open_split(root: Path, split: str) -> list[DepthPair]:
    """Find the pairs of a split and check their sizes and formats from the files' headers.

    Args:
        root: Folder of the data.
        split: Name of a folder or list below it.

    Raises:
        FileNotFoundError: If the split, an image or a depth map is missing.
        ValueError: If there is no pair, names clash, a pair's sizes differ or depth is not 16-bit.
    """
    place = next((path for path in (root / split, root / f"{split}.txt") if path.exists()), None)
    if place is None:
        there = ", ".join(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"no depth data in {root / split}: expected a folder with rgb and depth, or a list of 'image depth' lines "
            f"({split}.txt); {root} holds: {there or 'nothing'}"
        )
    pairs = _of_folder(place) if place.is_dir() else _of_list(place)
    if not pairs:
        raise ValueError(f"{place} holds no pair of an image and a depth map")
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{place} names {twice} twice; a pair needs a name of its own")
    with ThreadPoolExecutor() as threads:
        list(threads.map(_check_pair, pairs))
    return pairs


def read_depth(path: Path, units_per_metre: float, invalid: Sequence[int]) -> Float[np.ndarray, "H W"]:
    """Read a depth map in metres, 0 where nothing is known.

    Args:
        path: A 16-bit PNG.
        units_per_metre: 1000 for millimetres.
        invalid: Values that mean unknown; 0 does anyway.

    Raises:
        OSError: If it cannot be read.
    """
    with unreadable_as_os_error(str(path)), Image.open(path) as image:
        values = np.asarray(image)
    return np.where(np.isin(values, list(invalid)), 0, values).astype(np.float32) / np.float32(units_per_metre)


def _of_folder(folder: Path) -> list[DepthPair]:
    found = next(
        ((folder / i, folder / d) for i, d in FOLDERS if (folder / i).is_dir() and (folder / d).is_dir()), None
    )
    if found is None:
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise FileNotFoundError(f"{folder} lacks folders rgb and depth (or images and depths); it holds: {there}")
    images, depths = found
    pairs = [
        DepthPair(path.stem, path, depths / f"{path.stem}.png")
        for path in sorted(images.iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    ]
    for pair in pairs:
        if not pair.depth.is_file():
            raise FileNotFoundError(f"{pair.image} has no depth map: {pair.depth} is missing")
    stems = {pair.name for pair in pairs}
    for path in sorted(depths.glob("[!.]*.png")):
        if path.stem not in stems:
            endings = ", ".join(IMAGE_ENDINGS)
            raise FileNotFoundError(f"{path} has no image {images / path.stem} ({endings}); add it, or remove both")
    return pairs


def _of_list(path: Path) -> list[DepthPair]:
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words or words[1:2] == ["None"]:  # as BTS marks images without depth
            continue
        if len(words) < 2:
            raise ValueError(f"{path}, line {number}: {line!r} is not 'image depth'; write both, relative to the list")
        image, depth = (path.parent / word.lstrip("/") for word in words[:2])
        for file in (image, depth):
            if not file.is_file():
                raise FileNotFoundError(f"{path}, line {number}: {file} is missing")
        pairs.append(DepthPair(str(Path(words[0].lstrip("/")).with_suffix("")).replace("/", "_"), image, depth))
    return pairs


def _check_pair(pair: DepthPair) -> None:
    if (of_image := upright_size(pair.image)) != (of_depth := upright_size(pair.depth)):
        raise ValueError(
            f"{pair.depth} is {of_depth[1]}x{of_depth[0]} pixels, its image {of_image[1]}x{of_image[0]}; bring both to "
            "one size first"
        )
    with Image.open(pair.depth) as image:
        if not image.mode.startswith("I"):
            raise ValueError(f"{pair.depth} has pixels of mode {image.mode}; depth must be a 16-bit grey PNG")
