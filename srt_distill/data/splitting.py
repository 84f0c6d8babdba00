"""Which images are held out, so that what is measured on them was not trained on.

The held-out part is cut in runs of neighbours, not image by image. In videos, neighbours in a source's order are near
duplicates: of every twentieth frame held out, each would have a twin 40 ms away in the training part, and the measured
gain would be partly memory. Runs are evenly spaced, so that a source sorted by scene or class is not judged by its last
one alone; each touches training frames at its two ends only. A random choice would add nothing but noise between seeds:
the split depends on the number of images and the share, and on nothing else.
"""

import numpy as np
from jaxtyping import Int64

RUN_LENGTH = 8
"""Neighbours held out together, a third of a second of video. Longer runs would be further from the training part, but
fewer: a held-out part of 32 images is 4 runs from 4 places."""


def count_held_out(num_images: int, held_out: float | int) -> int:
    """Count the images held out.

    Args:
        num_images: images in all.
        held_out: a share in [0, 1) (then at least one image, unless it is 0), or a number of images.

    Raises:
        ValueError: If it is negative, a share of 1 or more, or leaves no image for training.
    """
    share = isinstance(held_out, float)
    if held_out < 0 or (share and held_out >= 1):
        raise ValueError(f"held_out={held_out} must be a share in [0, 1) such as 0.05, or a whole number of images")
    count = max(1, round(held_out * num_images)) if share and held_out > 0 else int(held_out)
    if count >= num_images:
        raise ValueError(
            f"held_out={held_out} keeps {count} of {num_images} images out and leaves none for training; "
            "lower it or add images"
        )
    return count


def split_indices(
    num_images: int, num_held_out: int
) -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
    """Give the indices of the training part and of the held-out part, both ascending.

    The order is cut into equal stretches, one per run (give or take an image), and each stretch's end is held out.

    Args:
        num_images: images in all.
        num_held_out: how many are held out, fewer than `num_images`.
    """
    num_runs = max(1, round(num_held_out / RUN_LENGTH))
    cuts = np.arange(num_runs + 1)
    lengths = [np.diff(cuts * part // num_runs) for part in (num_images - num_held_out, num_held_out)]
    is_held_out = np.repeat(np.tile([False, True], num_runs), np.stack(lengths, axis=1).ravel())
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
