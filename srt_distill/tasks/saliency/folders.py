"""Photographs and masks of salient objects, under the folder names of the field's data sets.

Shape legend: H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from srt_distill.images import to_rgb, unreadable_as_os_error, upright_size

LAYOUTS = (
    ("img", "gt"),  # as TokenCut's script has ECSSD, DUTS and DUT-OMRON
    ("images", "ground_truth_mask"),  # ECSSD
    ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ("DUTS-TR-Image", "DUTS-TR-Mask"),
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    ("images", "masks"),  # SOD
)
IMAGE_ENDINGS, MASK_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp"), (".png", ".bmp")


@dataclass(frozen=True)
class MaskedImage:
    """A photograph and its mask.

    Attributes:
        name: Name of the file without its ending.
        image: The photograph.
        mask: The mask, of the same size: 0 is background.
        size: Height and width of both, in pixels.
    """

    name: str
    image: Path
    mask: Path
    size: tuple[int, int]


def open_masked_images(root: Path) -> list[MaskedImage]:
    """Find photographs and masks and check that they belong together.

    Args:
        root: Folder that holds one folder of photographs and one of masks, under names of `LAYOUTS`.

    Raises:
        FileNotFoundError: If a folder, a mask or a photograph is missing.
        ValueError: If two files share a name, or a mask differs from its photograph in size.
        OSError: If a file is no image.
    """
    images_folder, masks_folder = _find_folders(root)
    images, masks = _by_stem(images_folder, IMAGE_ENDINGS), _by_stem(masks_folder, MASK_ENDINGS)
    if not images:
        raise FileNotFoundError(
            f"no photograph ({', '.join(IMAGE_ENDINGS)}) in {images_folder}; see that it is unpacked"
        )
    for name, path in images.items():
        if name not in masks:
            raise FileNotFoundError(f"photograph {path} has no mask {masks_folder / name}.png; add it, or remove both")
    for name, path in masks.items():
        if name not in images:
            raise FileNotFoundError(f"mask {path} has no photograph {images_folder / name}.jpg; add it, or remove both")
    return [_open_pair(name, images[name], masks[name]) for name in sorted(images)]


def _find_folders(root: Path) -> tuple[Path, Path]:
    """Take the first layout of which both folders are there; if none is, say what the nearest lacks."""
    pairs = [(root / images, root / masks) for images, masks in LAYOUTS]
    for images, masks in pairs:
        if images.is_dir() and masks.is_dir():
            return images, masks
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; give the one that holds photographs and masks")
    known = ", ".join(f"{images} and {masks}" for images, masks in LAYOUTS)
    half = [masks if images.is_dir() else images for images, masks in pairs if images.is_dir() or masks.is_dir()]
    missing = f"folder {half[0]} is missing" if half else f"{root} holds {_contents(root)}"
    raise FileNotFoundError(f"{missing}; photographs and masks belong in folders {known}")


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + ", …" * (len(names) > 8) if names else "nothing"


def _by_stem(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in endings or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} share a name; a photograph has one mask: rename one")
        found[path.stem] = path
    return found


def _open_pair(name: str, image: Path, mask: Path) -> MaskedImage:
    size, mask_size = upright_size(image), upright_size(mask)
    if size != mask_size:
        raise ValueError(
            f"mask {mask} is {mask_size[1]}x{mask_size[0]} pixels, its photograph {size[1]}x{size[0]}; a mask needs "
            "the photograph's size"
        )
    return MaskedImage(name, image, mask, size)


def read_grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Grey levels of a mask or map, 0 to 255; the two values of a 1-bit file are 0 and 255.

    Raises:
        OSError: If the file is no image.
        ValueError: If it is transparent somewhere: the mask may be in what is seen, or in the transparency.
    """
    with unreadable_as_os_error(str(path)), Image.open(path) as image:
        opacity = np.asarray(image.getchannel("A")) if "A" in image.getbands() else None
        grey = np.asarray(to_rgb(image, str(path)).convert("L"))
    if opacity is not None and opacity.min() < 255:
        raise ValueError(f"mask {path} is transparent in places; save it as 8-bit grey, 255 on what is salient")
    return grey
