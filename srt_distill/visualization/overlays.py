"""Object masks over frames in the colours of the DAVIS palette.

Shape legend: H W pixels.
"""

import numpy as np
from jaxtyping import Bool, UInt8

NUM_COLORS = 256


def object_palette() -> UInt8[np.ndarray, "256 3"]:
    """Colours of the object ids: the bit-interleaved colour map of PASCAL VOC, which DAVIS stores in its masks.

    Returns:
        RGB per id; 0 (background) is black.
    """
    ids = np.arange(NUM_COLORS)
    palette = np.zeros((NUM_COLORS, 3), dtype=np.uint8)
    for bit in range(8):  # bits 0, 3, 6 of the id make red, 1, 4, 7 green, 2, 5 blue, most significant first
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def mask_outlines(mask: UInt8[np.ndarray, "H W"], width: int = 1) -> Bool[np.ndarray, "H W"]:
    """Pixels of objects within `width` pixels of something else (another object, background or void).

    Args:
        mask: object ids, 0 for background.
        width: thickness in pixels; the outline lies inside the object.

    Returns:
        True on outlines. The frame's own border is no outline.
    """
    outline = np.zeros(mask.shape, dtype=bool)
    for distance in range(1, width + 1):
        down = mask[distance:] != mask[:-distance]
        right = mask[:, distance:] != mask[:, :-distance]
        outline[distance:] |= down
        outline[:-distance] |= down
        outline[:, distance:] |= right
        outline[:, :-distance] |= right
    return outline & (mask != 0)


def overlay_mask(
    frame: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "_ _"],
    opacity: float = 0.45,
    outline_width: int = 2,
) -> UInt8[np.ndarray, "H W 3"]:
    """Tints each object with its colour and draws its outline in the same colour at full brightness.

    Args:
        frame: RGB picture.
        mask: object ids, 0 for background.
        opacity: share of the colour inside the objects.
        outline_width: thickness of the outlines in pixels, 0 for none.

    Returns:
        RGB picture; the background is untouched.

    Raises:
        ValueError: If frame and mask differ in size, or the opacity is outside 0..1.
    """
    if frame.shape[:2] != mask.shape:
        raise ValueError(
            f"frame is {frame.shape[0]}x{frame.shape[1]} pixels but its mask is {mask.shape[0]}x{mask.shape[1]}; "
            "resize the mask by nearest neighbour first"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity} is outside 0..1")
    colors = object_palette()[mask]
    blended = np.rint((1 - opacity) * frame + opacity * colors).astype(np.uint8)
    picture = np.where((mask != 0)[..., None], blended, frame)
    outline = mask_outlines(mask, outline_width)
    rim = colors[outline].astype(np.float64)  # palette colours are dark: their brightest channel is lifted to 255
    picture[outline] = np.rint(rim * 255 / rim.max(axis=1, keepdims=True)).astype(np.uint8)
    return picture
