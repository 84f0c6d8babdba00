"""What SRT averages: the options that all commands share.

Shape legend: none.
"""

from dataclasses import dataclass
from typing import Literal

from srt_distill.ensemble.batching import ViewsPerBatch
from srt_distill.ensemble.shifts import Border, Subset

Averaging = Literal["mean", "median", "variance"]
"""What is taken over shifted views: SRT's mean, or a `srt_distill.ensemble.Statistic`."""


@dataclass(frozen=True)
class ShiftOptions:
    """Which shifts of an image there are, and how their views go through a model.

    Args:
        radius: d, the shift radius in pixels, for (2d+1)² passes per image; 0 is the single pass. The paper's is 3.
        border: What lies beyond the frame; `edge` repeats the outermost pixel.
        subset: Which of the (2d+1)² shifts are averaged: `full`, or with fewer passes (at radius 3) `checkerboard`
            (25), `grid16` (16) or `grid9` (9).
        views_per_batch: Shifted views that go through the model together; `auto` finds what fits into memory.
    """

    radius: int = 3
    border: Border = "edge"
    subset: Subset = "full"
    views_per_batch: ViewsPerBatch = 1


@dataclass(frozen=True)
class SRTOptions(ShiftOptions):
    """What the Stochastic Resonance Transformer averages.

    Args:
        statistic: Of the shifted views: `mean` (SRT), `median` or `variance`, pixel by pixel before pooling.
        grid: Cells per token and axis that SRT is pooled onto, from 1 (tokens) to the patch side, or `pixels`.
        flip: Average every pass with that of the mirrored view, at twice the passes.
    """

    statistic: Averaging = "mean"
    grid: int | Literal["pixels"] = 1
    flip: bool = False

    @property
    def name(self) -> str:
        """What tables call it: "SRT d=3", or "SRT d=3 grid9 median, grid x4, flips"."""
        words = [self.statistic] * (self.statistic != "mean")
        words += [f"grid x{self.grid}"] * (self.grid != 1) + ["flips"] * self.flip
        subset = "" if self.subset == "full" else f" {self.subset}"
        return f"SRT d={self.radius}{subset}" + " " * bool(words) + ", ".join(words)
