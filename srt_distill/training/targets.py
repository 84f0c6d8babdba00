"""Where a training target comes from: all shifts, a few drawn anew at every step, or a cache on disk.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, m margin in pixels.

Each is a type of its own behind one call, so that settings which contradict each other cannot be written down.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.shifts import Shift, draw_shifts
from srt_distill.training.losses import UNBIASED_LOSSES, Loss
from srt_distill.training.target_cache import TargetCache


class Target(ABC):
    """SRT(x, w0) of Eq. 6, from somewhere."""

    def check(self, loss: Loss, relations: bool = False) -> None:  # noqa: B027  most targets suit every loss
        """Refuse a loss that this target would bias.

        Args:
            loss: Distance of values.
            relations: Whether relations of tokens are compared too.

        Raises:
            ValueError: If it would.
        """

    def open(self, made_of: Callable[[], dict[str, Any]]) -> None:  # noqa: B027  most targets need nothing
        """Get ready for a run.

        Args:
            made_of: Tells what the targets of this run are made of; see `srt_distill.training.target_cache`.
        """

    @abstractmethod
    def __call__(
        self,
        crops: Real[Tensor, "B K H W"],
        images: Float[Tensor, "B K H W"],
        srt: StochasticResonance,
        draw: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        """Return target maps (B, C, h, w), one per layer.

        Args:
            crops: (B, K, H+2m, W+2m) bytes.
            images: The same, normalised.
            srt: SRT over the frozen teacher, of the same margin.
            draw: Seed, and number of the batch in the run: the same two draw the same, so that a resumed run repeats
                nothing.
        """

    def describe(self) -> dict[str, Any]:
        """Give class and arguments, as plain data for checkpoints."""
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": dict(vars(self))}


class AllShifts(Target):
    """The mean over all shifts of `srt`, computed at every step."""

    def __call__(
        self, crops: Tensor, images: Float[Tensor, "B K H W"], srt: StochasticResonance, draw: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """Return target maps (B, C, h, w), one per layer."""
        return srt(images)


class SampledShifts(Target):
    """The mean over a few shifts drawn anew at every step, for fewer passes.

    For a squared error the gradient is linear in the target, so drawn shifts give that of the mean over all shifts in
    expectation; other losses would be biased, and are refused.

    Args:
        num_shifts: Shifts drawn at each step.
    """

    def __init__(self, num_shifts: int = 4) -> None:
        self.num_shifts = num_shifts

    def check(self, loss: Loss, relations: bool = False) -> None:
        """Refuse every loss that is not linear in the target.

        Raises:
            ValueError: If it is not.
        """
        if relations:
            raise ValueError(
                f"target SampledShifts({self.num_shifts}) with relations: a softmax over similarities is not linear in "
                "the target, so sampled shifts bias it; use target AllShifts (srt.subset grid9 makes it 9 passes), or "
                "relations.weight 0"
            )
        if loss not in UNBIASED_LOSSES:
            raise ValueError(
                f"target SampledShifts({self.num_shifts}) with loss {loss!r}: sampled shifts bias every loss but "
                f"{', '.join(UNBIASED_LOSSES)}; use one of these, or target AllShifts"
            )

    def __call__(
        self, crops: Tensor, images: Float[Tensor, "B K H W"], srt: StochasticResonance, draw: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """Return target maps (B, C, h, w), one per layer."""
        # torch's CPU generator looks at 32 bits of a seed only, so the two numbers are mixed first
        mixed = int(np.random.SeedSequence(draw).generate_state(1)[0])
        return srt(images, self._choose(srt, torch.Generator().manual_seed(mixed)))

    def _choose(self, srt: StochasticResonance, generator: torch.Generator) -> tuple[Shift, ...]:
        """Shifts spread over the full grid; of a subset, any of it without repeats: each shift is equally likely."""
        if srt.subset == "full":
            return draw_shifts(srt.radius, self.num_shifts, generator)
        if not 1 <= self.num_shifts <= len(srt.shifts):
            raise ValueError(
                f"num_shifts {self.num_shifts} is not between 1 and the {len(srt.shifts)} shifts of subset "
                f"{srt.subset!r}; draw fewer, or use target AllShifts"
            )
        chosen = torch.randperm(len(srt.shifts), generator=generator)[: self.num_shifts]
        return tuple(srt.shifts[int(index)] for index in chosen)


class CachedShifts(Target):
    """The mean over all shifts, read from a folder that `srt-distill cache` filled: no teacher passes in training.

    The data's `views` must be fixed.

    Args:
        folder: Of the cache.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._cache: TargetCache | None = None

    def open(self, made_of: Callable[[], dict[str, Any]]) -> None:
        """Open the cache.

        Raises:
            FileNotFoundError: If the folder is none.
            ValueError: If it is incomplete, damaged, or made of anything else than what this run would compute.
        """
        self._cache = TargetCache(self.folder, made_of())

    def __call__(
        self, crops: Real[Tensor, "B K H W"], images: Tensor, srt: StochasticResonance, draw: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """Return target maps (B, C, h, w) in fp16, one per layer."""
        if self._cache is None:
            raise ValueError(f"target cache {self.folder} is not open; targets are read while a run is trained")
        return self._cache(crops)

    def describe(self) -> dict[str, Any]:
        """Give class and arguments, as plain data for checkpoints."""
        return {**super().describe(), "init_args": {"folder": str(self.folder)}}
