"""The photographs that the scikit-image and scikit-learn wheels install, split into training and validation photos.

Shape legend: H W pixels.

The files are read from the installed packages' folders and never fetched: the demo needs nothing but the package index.
The two splits share no photograph, so neither the pre-training nor the distillation of the demo sees a pixel of the
validation videos.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

Split = Literal["train", "val"]

PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/camera.png",
        "skimage/data/coins.png",
        "skimage/data/gravel.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/ihc.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/rocket.jpg",
        "sklearn/datasets/images/flower.jpg",
    ),
    "val": (
        "skimage/data/chelsea.png",
        "skimage/data/coffee.png",
        "skimage/data/grass.png",
        "skimage/data/moon.png",
        "skimage/data/retina.jpg",
        "sklearn/datasets/images/china.jpg",
    ),
}
"""Files by split, each relative to the folder that holds the installed packages."""

LONGEST_SIDE = 720


def load_photo(file: str) -> Float[Tensor, "3 H W"]:
    """Read one installed photograph.

    Args:
        file: Its path, beginning with the package's name, as in `PHOTOS`.

    Returns:
        (3, H, W) values from 0 to 1, the longer side at most `LONGEST_SIDE` pixels; of a grey photo three equal planes.

    Raises:
        FileNotFoundError: If the package is not installed, or its wheel does not hold the file.
    """
    package, _, rest = file.partition("/")
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    path = next((folder / rest for folder in folders if (folder / rest).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"photograph {file} is not among the installed packages; install the extra: pip install 'srt-distill[demo]'"
        )
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def load_photos(split: Split) -> list[Float[Tensor, "3 _ _"]]:
    """Read all photographs of one split, in the order of `PHOTOS`.

    Args:
        split: Which of the two disjoint sets.

    Returns:
        One (3, H, W) image a photograph, of various sizes.
    """
    return [load_photo(file) for file in PHOTOS[split]]
