"""What TokenCut and LOST end with: the connected part that holds a seed, and the box round it.

Shape legend: h w tokens.
"""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom lie outside, so that right - left is the width."""


def seed_component(inside: Bool[np.ndarray, "h w"], seed: int) -> Bool[np.ndarray, "h w"]:
    """Keep the 4-connected part of a region that holds the seed.

    Args:
        inside: The region.
        seed: Index of a token in it, row by row.
    """
    parts = np.empty(inside.shape, np.int32)
    ndimage.label(inside, output=parts)  # by default its structure is the 4-neighbourhood
    return parts == parts.flat[seed]


def enclosing_box(region: Bool[np.ndarray, "h w"], patch: int, size: tuple[int, int]) -> Box:
    """Box of a region of tokens in pixels of the image.

    Args:
        region: Not empty.
        patch: Pixels per token.
        size: Height and width of the image without padding, which the box does not leave.
    """
    rows, columns = np.nonzero(region)
    height, width = size
    right, bottom = patch * (int(columns.max()) + 1), patch * (int(rows.max()) + 1)
    return patch * int(columns.min()), patch * int(rows.min()), min(right, width), min(bottom, height)
