"""Rules by which a run is fitted to images, model and machine; each a function of plain numbers.

Shape legend: H W pixels, p patch side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srt_distill.data import ImageSource
from srt_distill.data.streaming import ImageStream

WORKING_SIDE = 480
"""Short side in pixels that larger images are brought to: that of the paper's tasks. Smaller ones stay as they are."""

USUAL_CROP = 224
"""Side of a crop where images are large enough; the size that most backbones were trained at."""

FEWEST_TOKENS = 4
"""Side of the smallest crop in tokens; images too small for it are enlarged."""

CROPS_PER_IMAGE = 20
"""Crops trained on per image of few images. More of the same has not moved what was measured (docs/results.md)."""

FEWEST_STEPS = 200


@dataclass(frozen=True)
class Sizes:
    """What a look at some images found.

    Attributes:
        height: Median, in pixels.
        width: Median, in pixels.
        num_seen: Images that were read.
    """

    height: int
    width: int
    num_seen: int


def look_at_sizes(source: ImageSource, num_images: int = 16) -> Sizes:
    """Read the sizes of a few images, spread over a source; those that cannot be read are passed over.

    Of a stream the first ones, as those further on would be read up to.

    Args:
        source: The images.
        num_images: How many are looked at, at most.

    Raises:
        OSError: If none of them can be read.
    """
    sizes: list[tuple[int, int]] = []
    reasons: list[str] = []
    last = min(len(source), num_images) - 1 if isinstance(source, ImageStream) else len(source) - 1
    for index in np.unique(np.linspace(0, last, num_images).round().astype(int)).tolist():
        try:
            image = source.load(index)
        except OSError as error:
            reasons.append(str(error))
            continue
        sizes.append((image.height, image.width))
    if not sizes:
        raise OSError(f"none of {len(reasons)} images looked at can be read; the first: {reasons[0]}")
    height, width = np.median(np.array(sizes), axis=0).astype(int).tolist()
    return Sizes(height, width, len(sizes))


def choose_scale(sizes: Sizes) -> float:
    """Choose the factor that brings large images to the working size."""
    return min(1.0, round(WORKING_SIDE / min(sizes.height, sizes.width), 3))


def choose_crop(
    sizes: Sizes, scale: float, margin: int, patch: int, fixed_size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Choose height and width of a crop: multiples of the patch side that most images hold with their margin.

    Args:
        sizes: Of the images.
        scale: Factor on them.
        margin: Real pixels round a crop.
        patch: p, of the backbone.
        fixed_size: Height and width where the backbone takes no other.
    """
    if fixed_size is not None:
        return fixed_size

    def fit(side: int) -> int:
        largest = max(FEWEST_TOKENS, (int(side * scale) - 2 * margin) // patch) * patch
        return min(largest, max(1, USUAL_CROP // patch) * patch)

    return fit(sizes.height), fit(sizes.width)


def choose_held_out(num_images: int) -> int:
    """Choose how many images are kept to measure on: a tenth, 4 to 16, at most a quarter; none of a single image."""
    return min(max(4, min(16, num_images // 10)), max(1, num_images // 4)) if num_images > 1 else 0


def choose_steps(num_images: int, batch_size: int, most: int) -> int:
    """Choose the number of steps by that of images.

    Args:
        num_images: Trained on.
        batch_size: Images per step.
        most: Steps of the default recipe.
    """
    return max(min(FEWEST_STEPS, most), min(most, -(-CROPS_PER_IMAGE * num_images // batch_size)))


def merge(below: dict, above: dict) -> dict:
    """Lay settings over others, group by group; what names a class replaces what it lies on."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict) and "class_path" not in value
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def describe_numbers(values: Sequence[int]) -> str:
    """Write sides as people do: 224x224."""
    return "x".join(map(str, values))
