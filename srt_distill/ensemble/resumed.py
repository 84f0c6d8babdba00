"""SRT inside the network: average at one layer, then run the remaining layers once on the average.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, k prefix tokens, T shifts, L blocks.

The averaged map has its layer's shape and can take its place (paper, Sect. 2.1). For retrieval the paper averages
"prior to the attention mechanism in the last layer" and computes the class token from the average, instead of averaging
the class tokens of shifted images (Sect. 3.5). With l blocks before the average an image costs T l + (L - l) blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.mean import StochasticResonance, at_least_float32

PrefixTokens = Literal["mean", "unshifted"]
"""What class and register tokens enter the remaining blocks: their mean over shifts, or those of the unshifted view,
for one more pass through the first blocks. The paper does not say which."""

Resume = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Images (B, K, H, W), and what entered the layer, to the maps (B, C, h, w) of the chosen layers."""


@dataclass(frozen=True)
class ResumedResonance:
    """SRT at the entry of a layer and one pass through the rest, itself an extractor.

    With `split = SplitBackbone(model, layers, norm, resume_at)` of `srt_distill.backbone.resumed` it is
    `ResumedResonance(StochasticResonance(split.enter, radius, …), split.resume)`. Radius 0 is the plain pass, to the
    bit.

    Attributes:
        srt: Which shifts are averaged; its extractor gives the map that enters the layer, the prefix tokens that do as
            (B, k C, 1, 1), and whatever `resume` wants averaged besides.
        resume: The rest of the network.
        prefix: Which prefix tokens enter it.
    """

    srt: StochasticResonance
    resume: Resume
    prefix: PrefixTokens = "mean"

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Give maps (B, C, h, w) of the chosen layers."""
        averages = self.srt(images)
        margin = self.srt.margin
        inner = images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
        if self.prefix == "unshifted":
            unshifted = self.srt.extract(inner)
            averages = (averages[0], at_least_float32(unshifted[1]), *averages[2:])
        return self.resume(inner, averages)
