"""What SRT averages: the options that all commands share.

Shape legend: none.
"""

from dataclasses import dataclass
from typing import Literal

from srt_distill.ensemble.batching import ViewsPerBatch
from srt_distill.ensemble.resumed import PrefixTokens
from srt_distill.ensemble.shifts import Border, Subset

Averaging = Literal["mean", "median", "variance", "confident"]
"""What is taken over shifted views: SRT's mean, a `srt_distill.ensemble.Statistic`, or `ConfidentResonance`."""


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
class ViewOptions(ShiftOptions):
    """Which other views of an image are averaged beside shifted ones.

    Args:
        flip: Average every pass with that of the mirrored view, at twice the passes.
        scales: Average every pass with those of the view resized to this many scales, the original among them, so odd,
            evenly spread from 1/√2 to √2; as many times the passes.
    """

    flip: bool = False
    scales: int = 1


@dataclass(frozen=True)
class SRTOptions(ViewOptions):
    """What the Stochastic Resonance Transformer averages.

    Args:
        statistic: Of the shifted views: `mean` (SRT); `median` or `variance`, pixel by pixel before pooling;
            `confident`, the mean of which tokens that vary most lean on their neighbours.
        grid: Cells per token and axis that SRT is pooled onto, from 1 (tokens) to the patch side, or `pixels`.
        resume_at: Average what enters this block and run the rest of the network once, on the average; negative from
            the end. The paper resumes at the last block, -1, for retrieval (Sect. 3.5). By default the maps themselves
            are averaged.
        prefix: Class and register tokens that enter the resumed block: their `mean`, or those of the `unshifted` view.

    Raises:
        ValueError: If the network is to be resumed on what is no mean on its grid of tokens.
    """

    statistic: Averaging = "mean"
    grid: int | Literal["pixels"] = 1
    resume_at: int | None = None
    prefix: PrefixTokens = "mean"

    def __post_init__(self) -> None:
        if self.resume_at is not None and (self.statistic, self.grid) != ("mean", 1):
            raise ValueError(
                f"resume_at {self.resume_at} with statistic {self.statistic} and grid {self.grid}: a network can only "
                "be resumed on the mean, on its own tokens; leave statistic and grid out, or resume_at"
            )
        if self.statistic == "confident" and self.grid != 1:
            raise ValueError(f"statistic confident is one of tokens, grid {self.grid} finer; leave grid at 1")

    @property
    def plain(self) -> "SRTOptions":
        """The same shifts without any variant: SRT as it is defined, which baselines are matched to."""
        return SRTOptions(self.radius, self.border, self.subset, self.views_per_batch)

    @property
    def name(self) -> str:
        """What tables call it: "SRT d=3", "SRT d=3 grid9 median, grid x4, flips", "SRT d=3 resumed at -1"."""
        words = [self.statistic] * (self.statistic != "mean")
        words += [f"grid x{self.grid}"] * (self.grid != 1) + ["flips"] * self.flip
        words += [f"{self.scales} scales"] * (self.scales != 1)
        if self.resume_at is not None:
            words.append(f"resumed at {self.resume_at}" + ", unshifted prefix" * (self.prefix == "unshifted"))
        subset = "" if self.subset == "full" else f" {self.subset}"
        return f"SRT d={self.radius}{subset}" + " " * bool(words) + ", ".join(words)
