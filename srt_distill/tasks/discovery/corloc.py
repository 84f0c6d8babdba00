"""Whether a box finds an object (CorLoc).

Shape legend: none.
"""

from collections.abc import Sequence

from srt_distill.tasks.regions.components import Box

FOUND_AT = 0.5  # intersection over union, inclusive
EPSILON = 1e-7  # LOST's and TokenCut's scripts add it to heights and to the union


def box_overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes as areas, with the rounding guard of LOST's script."""
    width = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(right - left) * (bottom - top + EPSILON) for left, top, right, bottom in (first, second)]
    return width * height / (sum(areas) - width * height + EPSILON)


def finds_object(box: Box, objects: Sequence[Box]) -> bool:
    """Whether a box overlaps any of the annotated ones by at least half."""
    return any(box_overlap(box, other) >= FOUND_AT for other in objects)
