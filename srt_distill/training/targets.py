"""Where a training target comes from: all shifts, a fixed few, or a few drawn anew at every step.

Shape legend: B images, C channels, H W pixels, h w tokens, m margin and d shift radius in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import Subset, draw_shifts, subset_shifts
from srt_distill.training.losses import UNBIASED_LOSSES, Loss


@dataclass(frozen=True)
class OnlineTarget:
    """SRT(x, w0) of Eq. 6, computed as it is needed.

    Attributes:
        srt: SRT over the frozen teacher.
        shifts_per_step: Shifts drawn anew at each step, or None for the full grid. For a squared error the gradient is
            linear in the target, so drawn shifts give the full grid's gradient in expectation.
        seed: Seed of the draws.
        subset: Part of the grid that is averaged where none are drawn. Its mean is not the full grid's, at any loss.
    """

    srt: StochasticResonance
    shifts_per_step: int | None = None
    seed: int = 0
    subset: Subset = "full"

    def __call__(self, images: Float[Tensor, "B 3 H W"], step: int) -> tuple[Tensor, ...]:
        """Target maps (B, C, h, w), one a layer.

        Args:
            images: (B, 3, H+2m, W+2m) normalised images with the margin of `srt`.
            step: Number of the draw; the same number draws the same shifts, so that a resumed run repeats nothing.
        """
        if self.shifts_per_step is None:
            return self.srt(images, None if self.subset == "full" else subset_shifts(self.srt.radius, self.subset))
        # torch's CPU generator looks at 32 bits of a seed only, so the two numbers are mixed first
        mixed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(mixed)
        return self.srt(images, draw_shifts(self.srt.radius, self.shifts_per_step, generator))


def check_target(shifts_per_step: int | None, shift_subset: Subset, loss: Loss, target_cache: str | None) -> None:
    """Refuse settings of a target that contradict each other.

    Args:
        shifts_per_step: Shifts drawn at each step, or None.
        shift_subset: Part of the grid that is averaged where none are drawn.
        loss: Distance to the target.
        target_cache: Folder of full-grid targets, or None.

    Raises:
        ValueError: If they do.
    """
    if shifts_per_step is not None and loss not in UNBIASED_LOSSES:
        raise ValueError(
            f"shifts_per_step {shifts_per_step} with loss {loss!r}: sampled shifts bias every loss but "
            f"{', '.join(UNBIASED_LOSSES)}; use one of these, or shifts_per_step null for the full grid"
        )
    if shifts_per_step is not None and shift_subset != "full":
        raise ValueError(
            f"shifts_per_step {shifts_per_step} with shift_subset {shift_subset!r}: shifts are drawn from the full "
            "grid; set shift_subset full to draw, or shifts_per_step null for the subset's mean"
        )
    neutral = {"shifts_per_step": (shifts_per_step, None), "shift_subset": (shift_subset, "full")}
    for name, (value, none_drawn) in neutral.items():
        if target_cache is not None and value != none_drawn:
            raise ValueError(
                f"{name} {value} with target_cache {target_cache}: a cache holds the mean over all shifts; set {name} "
                f"{none_drawn or 'null'}, or target_cache null"
            )
