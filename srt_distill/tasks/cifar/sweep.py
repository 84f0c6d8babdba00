"""SRT before the head of a CIFAR-10 ResNet, for every radius at once: each shifted view is run one time.

Shape legend: B images, C channels, H W pixels, h w cells of 4 x 4 pixels, K classes.

The views of a radius are among those of every larger one, and after the map only a mean over positions and a linear
layer follow: all that moving a map back does is to let border cells count more or less often. So sums of C numbers per
image are kept, and read off whenever a radius is complete.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.shifts import Border, Shift, grid_shifts, pad_images, slice_view
from srt_distill.ensemble.wide_shifts import axis_shares
from srt_distill.tasks.cifar.resnet import STRIDE, CifarResNet


def sweep_radii(
    model: CifarResNet, images: Float[Tensor, "B 3 H W"], max_radius: int
) -> Iterator[tuple[str, Float[Tensor, "B K"]]]:
    """Classify images in one pass and by SRT and the mean of logits of every radius.

    Args:
        model: In eval mode.
        images: Normalised.
        max_radius: The largest d, in pixels.

    Yields:
        The name of a row, as `cifar_candidates` has them, and its logits.
    """
    (plain,) = model.features(images)
    yield f"ResNet-{model.depth}", model.linear(plain.mean((2, 3)))
    for border in ("edge", "circular"):
        averaged = plain.new_zeros(plain.shape[:2])
        unmoved = averaged
        shifts = sorted(grid_shifts(max_radius), key=_radius_of)
        padded = pad_images(images, max_radius, border)
        for number, shift in enumerate(shifts, start=1):
            (maps,) = model.features(slice_view(padded, shift, max_radius, (images.shape[-2], images.shape[-1])))
            averaged = averaged + (maps * cell_weights(shift, maps.shape[-2:], border).to(maps)).mean((2, 3))
            unmoved = unmoved + maps.mean((2, 3))
            radius = _radius_of(shift)
            if radius and number == (2 * radius + 1) ** 2:
                yield f"SRT d={radius} {border}", model.linear(averaged / number)
                if border == "edge":
                    yield f"mean of logits d={radius}", model.linear(unmoved / number)


def cell_weights(shift: Shift, grid: torch.Size | tuple[int, int], border: Border) -> Float[Tensor, "_h _w"]:
    """Tell how much of all cells together is each cell, once its map is moved back: 1 on average.

    Args:
        shift: (dy, dx) in pixels.
        grid: (h, w).
        border: What lies beyond the frame.
    """
    down, right = (axis_shares(step, cells, STRIDE, border).sum(0) for step, cells in zip(shift, grid, strict=True))
    return down[:, None] * right


def _radius_of(shift: Shift) -> int:
    return max(abs(shift[0]), abs(shift[1]))
