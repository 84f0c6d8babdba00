"""J and F of masks: how far regions overlap and how far their outlines agree.

Shape legend: T frames, H W pixels, n words of 64 pixels a row.

F is the costly one: a full-frame dilation by a disk for every mask. Its fast path rests on three facts. Outlines live
in the box of all masks at hand, so only that crop is looked at. 64 pixels fit one machine word, so a shift, AND or OR
of a crop is a handful of vector instructions. And the rows of a disk are nested runs, each grown from the one before.
All that is counted is whole pixels, so the result equals the full-frame definition to the bit.

Source: Perazzi et al., "A benchmark dataset and evaluation methodology for video object segmentation" (2016), and the
public davis2017-evaluation script.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt64

BOUNDARY_FRACTION = 0.008  # tolerance of F as a share of the image diagonal (davis2017-evaluation)
WORD = 64  # pixels in a machine word


def region_similarity(
    target: Bool[np.ndarray, "T H W"], predicted: Bool[np.ndarray, "T H W"]
) -> Float[np.ndarray, " T"]:
    """J of each frame: intersection over union of two masks; 1 where both are empty."""
    both = np.array([np.count_nonzero(frame) for frame in target & predicted])
    either = np.array([np.count_nonzero(frame) for frame in target | predicted])
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def boundary_tolerance(height: int, width: int) -> int:
    """Distance in pixels within which an outline pixel counts as found: 0.8% of the diagonal, rounded up."""
    return math.ceil(BOUNDARY_FRACTION * float(np.linalg.norm((height, width))))


def boundary_accuracy(
    target: Bool[np.ndarray, "T H W"], predicted: Bool[np.ndarray, "T H W"], tolerance: int | None = None
) -> Float[np.ndarray, " T"]:
    """F of each frame: harmonic mean of the precision and recall of one mask's outline against another's.

    Args:
        target: The ground truth.
        predicted: The masks to judge.
        tolerance: In pixels; None takes `boundary_tolerance` of the frame. To be given with crops.

    Returns:
        Numbers in [0, 1]; 0 where one of the two has no outline, 1 where neither has.
    """
    num_frames, height, width = target.shape
    radius = boundary_tolerance(height, width) if tolerance is None else tolerance
    rows, columns = bounding_box(np.asarray(target.any(0) | predicted.any(0)), margin=1)
    crops = target[:, rows, columns], predicted[:, rows, columns]
    outlines = _outline(np.concatenate([_pack(crop, radius) for crop in crops]), *crops[0].shape[1:])
    near = _dilate(outlines, radius)
    num_target, num_predicted = np.split(_count(outlines), 2)
    recalled = _count(outlines[:num_frames] & near[num_frames:])
    precise = _count(outlines[num_frames:] & near[:num_frames])
    precision, recall = precise / np.maximum(num_predicted, 1), recalled / np.maximum(num_target, 1)
    total = precision + recall
    scores = 2 * precision * recall / np.where(total == 0, 1.0, total)
    return np.where((num_target == 0) & (num_predicted == 0), 1.0, scores)


def bounding_box(mask: Shaped[np.ndarray, "H W"], margin: int = 0) -> tuple[slice, slice]:
    """Find the smallest crop that holds every nonzero pixel and, inside the image, a margin; empty where none is."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    vertical = slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin)
    columns = np.flatnonzero(mask[vertical].any(axis=0))
    return vertical, slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin)


def _pack(masks: Bool[np.ndarray, "T H W"], margin: int) -> UInt64[np.ndarray, "T rows n"]:
    """Masks as words, column x at bit x % 64 of word x // 64, with at least `margin` empty columns and rows after."""
    num_frames, height, width = masks.shape
    num_words = -(-(width + margin) // WORD)
    packed = np.zeros((num_frames, height + margin, num_words * 8), dtype=np.uint8)
    packed[:, :height, : -(-width // 8)] = np.packbits(masks, axis=2, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def _outline(packed: UInt64[np.ndarray, "T rows n"], height: int, width: int) -> UInt64[np.ndarray, "T rows n"]:
    """Pixels that differ from their right, lower or lower right neighbour, as far as the image has one."""
    neighbours = np.ones((3, height, width), dtype=bool)  # who has a right, a lower, a lower right one
    neighbours[[0, 2], :, -1:] = False
    neighbours[1:, -1:] = False
    has_right, has_lower, has_both = _pack(neighbours, packed.shape[1] - height)
    words, line = packed.ravel(), packed.shape[2]
    right = _shift(words, -1)
    outline = (words ^ right).reshape(packed.shape) & has_right
    for neighbour, exists in ((words, has_lower), (right, has_both)):
        differs = words.copy()
        differs[: len(words) - line] ^= neighbour[line:]
        outline |= differs.reshape(packed.shape) & exists
    return outline


def _dilate(packed: UInt64[np.ndarray, "T rows n"], radius: int) -> UInt64[np.ndarray, "T rows n"]:
    """Dilation by the disk dx² + dy² ≤ radius², as the union of its rows.

    All masks are one string of words, in which a step down is a whole number of words. The empty rows and columns that
    `_pack` leaves keep one row and one mask from running into the next; what is left there is dirty.
    """
    line = packed.shape[2]
    run = packed.ravel().copy()
    dilated = np.zeros_like(run)
    half_width = 0
    for dy in range(radius, -1, -1):  # from the tip, where the run is shortest, to the middle
        wanted = math.isqrt(radius**2 - dy**2)
        while half_width < wanted:
            step = min(wanted - half_width, 2 * half_width + 1)
            run = run | _shift(run, step) | _shift(run, -step)
            half_width += step
        offset = dy * line
        dilated[offset:] |= run[: len(run) - offset]
        if offset:
            dilated[:-offset] |= run[offset:]
    return dilated.reshape(packed.shape)


def _shift(words: UInt64[np.ndarray, " n"], step: int) -> UInt64[np.ndarray, " n"]:
    """All bits of a string of words moved up (down if negative) by less than a word."""
    if step > 0:
        moved = words << np.uint64(step)
        moved[1:] |= words[:-1] >> np.uint64(WORD - step)
    else:
        moved = words >> np.uint64(-step)
        moved[:-1] |= words[1:] << np.uint64(WORD + step)
    return moved


def _count(packed: UInt64[np.ndarray, "T rows n"]) -> Int[np.ndarray, " T"]:
    """Bits set in each mask."""
    return np.bitwise_count(packed).sum(axis=(1, 2), dtype=np.int64)
