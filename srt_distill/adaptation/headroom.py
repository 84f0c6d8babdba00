"""Whether there is anything to distil: how far SRT takes features from their single pass, told without labels.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Real
from torch import Tensor

from srt_distill.adaptation.machine import Machine
from srt_distill.ensemble.baselines import InterpolatedFeatures
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.held_out_scores import crop_margin, dense_layers

LITTLE = 0.01
"""Share of the features' variance below which SRT hardly changes them. A rule of thumb, not a law."""


@dataclass(frozen=True)
class Headroom:
    """What SRT changes of the features of a few images.

    Attributes:
        share: E‖SRT - single‖² / E‖single - mean‖²: the squared way from the single pass to SRT, as a share of the
            variance of tokens; mean over dense layers.
        smoothing: How much of that way mere bilinear smoothing of the single pass, which costs nothing, goes:
            1 - E‖SRT - smoothed‖² / E‖SRT - single‖².
        num_images: That it was measured on.
    """

    share: float
    smoothing: float
    num_images: int

    @property
    def is_little(self) -> bool:
        """Whether SRT hardly changes these features."""
        return self.share < LITTLE

    def describe(self) -> str:
        """Say it in a line."""
        measured = (
            f"SRT moves these features by {self.share:.1%} of their variance ({self.num_images} images, no labels); "
            f"free smoothing goes {self.smoothing:.0%} of that way"
        )
        rule = f"below {LITTLE:.0%} there is little to distil: expect little"
        return f"{'hardly' if self.is_little else 'yes'}: {measured}{'; ' + rule if self.is_little else ''}"


def measure_headroom(
    module: SRTDistillation, batches: Iterable[Real[Tensor, "B K H W"]], machine: Machine, num_images: int = 8
) -> Headroom:
    """Compare the teacher's single pass with its SRT.

    Args:
        module: With its models made.
        batches: Crops with their margin.
        machine: What computes.
        num_images: How many are looked at, at most.

    Raises:
        ValueError: If there is no image.
    """
    module.to(machine.device)
    reading = replace(module.reading, readout="none")
    dense, teacher, margin = dense_layers(reading.layers), reading.teacher(module.teacher), reading.srt.margin
    way = torch.zeros(len(dense))
    left, spread = way.clone(), way.clone()
    seen = 0
    for batch in batches:
        images = module.normalization(batch[: num_images - seen].to(machine.device))
        inner = crop_margin(images, margin)
        with torch.no_grad(), machine.autocast():
            single, target = teacher.single(inner), teacher.srt(images)
            smoothed = InterpolatedFeatures(lambda x: tuple(teacher.single(x)[i] for i in dense), "bilinear")(inner)
        for place, layer in enumerate(dense):
            plain, wanted, smooth = single[layer].float(), target[layer].float(), smoothed[place].float()
            way[place] += (wanted - plain).square().sum().cpu()
            left[place] += (wanted - smooth).square().sum().cpu()
            spread[place] += (plain - plain.mean((0, 2, 3), keepdim=True)).square().sum().cpu()
        seen += len(images)
        if seen >= num_images:
            break
    if not seen:
        raise ValueError("no image to look at SRT on; give images that can be read")
    tiny = torch.finfo(torch.float32).tiny
    return Headroom(
        share=float((way / spread.clamp(min=tiny)).mean()),
        smoothing=float((1 - left / way.clamp(min=tiny)).mean()),
        num_images=seen,
    )
