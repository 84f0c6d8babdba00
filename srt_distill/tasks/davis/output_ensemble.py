"""Label propagation through several shifted copies of a video, their outputs averaged.

Shape legend: C channels, K labels (background, objects), H W pixels of the video, h w tokens, p patch side in pixels.

The counterpart of SRT that ensembles outputs, not features (paper, Sect. 3.1 and the rows "OE" of Table 2). Averaging
soft labels needs labels, which no extractor knows: the views come from `ensemble.baselines.ShiftedViews`, and every
view is a video of its own with a shifted first mask. Its soft labels are moved back by the operator that SRT moves
features with. One view without a shift is the plain protocol. Shifted first masks tell together where an outline runs
inside a token, which one mask on the token grid does not: a gain of this ensemble need not be one of its features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srt_distill.ensemble.shifts import Shift, unshift_tokens
from srt_distill.tasks.davis.label_propagation import LabelPropagator, PropagationOptions, shrink_mask


class OutputEnsemble:
    """One `LabelPropagator` per view; a step gives the mean of their soft labels on the unshifted grid.

    Args:
        features: First frame's maps, one per view.
        first_labels: Label of each pixel in the first frame: 0 for background, 1 to K - 1 for objects.
        shifts: Of each view, in pixels of the network's input.
        patch: p.
        options: How labels are carried.

    Raises:
        ValueError: If there is another number of maps than of shifts.
    """

    def __init__(
        self,
        features: Sequence[Float[Tensor, "C h w"]],
        first_labels: UInt8[np.ndarray, "H W"],
        shifts: Sequence[Shift],
        patch: int,
        options: PropagationOptions = PropagationOptions(),
    ) -> None:
        if len(features) != len(shifts):
            raise ValueError(f"{len(features)} maps for {len(shifts)} shifts; the extractor must give one per shift")
        self.shifts, self.patch = tuple(shifts), patch
        num_labels = int(first_labels.max()) + 1
        size = features[0].shape[-2], features[0].shape[-1]
        pixels = size[0] * patch, size[1] * patch
        self._views = [
            LabelPropagator(
                view, shrink_mask(shift_mask(first_labels, shift, pixels), num_labels, size).to(view.device), options
            )
            for view, shift in zip(features, shifts, strict=True)
        ]

    def step(self, features: Sequence[Float[Tensor, "C h w"]]) -> Float[Tensor, "K h w"]:
        """Give soft labels of the next frame from its maps, one per view."""
        soft = [
            unshift_tokens(view.step(tokens)[None], shift, self.patch)[0]
            for view, tokens, shift in zip(self._views, features, self.shifts, strict=True)
        ]
        return torch.stack(soft).mean(0)


def shift_mask(mask: UInt8[np.ndarray, "H W"], shift: Shift, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Move a mask as its resized frame is moved, edges repeated, to the nearest pixel of the video.

    Args:
        mask: Object ids at the size of the video.
        shift: (dy, dx) in pixels of the network's input.
        size: Rows and columns of the network's input.
    """
    rows, columns = (
        np.clip(np.arange(length) - round(step * length / resized), 0, length - 1)
        for length, step, resized in zip(mask.shape, shift, size, strict=True)
    )
    return mask[rows[:, None], columns]
