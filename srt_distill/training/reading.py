"""How features are read off student and teacher alike: layers, kernels, unit tokens, readout, SRT.

Shape legend: none, extractors are only put together.
"""

from dataclasses import dataclass

from torch import nn

from srt_distill.backbone import BackboneInfo, FeatureExtractor, describe_backbone
from srt_distill.backbone.execution import AttentionKernel, run_with
from srt_distill.ensemble import StochasticResonance, WideShiftMean, whole_patch_shifts
from srt_distill.ensemble.baselines import InterpolatedFeatures
from srt_distill.ensemble.scales import average_views, check_scales
from srt_distill.extractor import Extractor, UnitTokens
from srt_distill.runs import Readout, ThroughReadout
from srt_distill.training.held_out_scores import FrozenTeacher
from srt_distill.training.settings import TargetSRTOptions


@dataclass(frozen=True)
class FeatureReading:
    """Which features of a model are distilled, and how.

    Attributes:
        layers: Layer specs.
        norm: Apply the final norm.
        unit_tokens: Bring every token to length 1.
        readout: How maps are read where they are judged; the loss sees them smoothed if through any.
        readout_strength: How much of its smoothing there is where maps are compared.
        srt: What the teacher averages.
        attention: Kernel that computes attention.

    Raises:
        ValueError: If the readout's strength is not between 0 and 1.
    """

    layers: tuple[int | str, ...]
    norm: bool
    unit_tokens: bool
    readout: Readout
    readout_strength: float
    srt: TargetSRTOptions
    attention: AttentionKernel

    def __post_init__(self) -> None:
        if not 0 <= self.readout_strength <= 1:
            raise ValueError(
                f"readout_strength {self.readout_strength} is not between 0 (no smoothing) and 1 (all of the readout's)"
            )

    def plain(self, model: nn.Module) -> FeatureExtractor:
        """Read the model's own features."""
        return FeatureExtractor(model, self.layers, norm=self.norm)

    def student(self, model: nn.Module) -> Extractor:
        """Read what is compared: a single pass through the readout, as far as the loss sees it."""
        return self._through_readout(self._single(model))

    def teacher(self, model: nn.Module) -> FrozenTeacher:
        """Read the same of a frozen model, and SRT over it."""
        single, srt = self._single(model), self.srt
        filled = single if srt.interpolation == "nearest" else InterpolatedFeatures(single, srt.interpolation)
        varied = self._vary(filled, describe_backbone(model))
        resonance = StochasticResonance(varied, srt.radius, srt.border, srt.views_per_batch, srt.margin, srt.subset)
        return FrozenTeacher(self._through_readout(single), resonance)

    def _vary(self, extract: Extractor, info: BackboneInfo) -> Extractor:
        """Average every pass over the changes of its view that are asked for besides shifts inside a patch."""
        check_scales(self.srt.scales, info.fixed_size, info.name)
        views = average_views(extract, self.srt.flip, self.srt.scales, info.patch_size)
        return WideShiftMean(views, whole_patch_shifts(info.patch_size)) if self.srt.whole_patches else views

    def _single(self, model: nn.Module) -> Extractor:
        extract = run_with(self.plain(model), attention=self.attention)
        return UnitTokens(extract) if self.unit_tokens else extract

    def _through_readout(self, extract: Extractor) -> Extractor:
        if self.readout == "none":
            return extract
        return ThroughReadout(extract, self.layers, "bilinear", self.readout_strength)
