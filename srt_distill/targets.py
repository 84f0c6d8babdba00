"""Where a training target comes from: all shifts, a fixed few, or a few drawn anew at every step.

Shape legend: B images, C channels, H W pixels, h w tokens, m margin and d shift radius in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble import StochasticResonance
from srt_distill.shifts import Subset, draw_shifts, subset_shifts


@dataclass(frozen=True)
class OnlineTarget:
    """SRT(x, w0) of Eq. 6, computed as it is needed.

    Attributes:
        srt: SRT over the frozen teacher.
        shifts_per_step: Shifts drawn anew at each step, or None for the full grid. For a squared error the gradient is
            linear in the target, so drawn shifts give the full grid's gradient in expectation.
        seed: Seed of the draws.
        subset: Part of the grid that is averaged where none are drawn. Its mean is not the full grid's, at any loss.

    Raises:
        ValueError: If shifts are to be drawn from a subset.
    """

    srt: StochasticResonance
    shifts_per_step: int | None = None
    seed: int = 0
    subset: Subset = "full"

    def __post_init__(self) -> None:
        if self.shifts_per_step is not None and self.subset != "full":
            raise ValueError(
                f"{self.shifts_per_step} shifts a step are drawn from the full grid, not from subset {self.subset!r}; "
                "use subset 'full' to draw, or shifts_per_step null for the subset"
            )

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
