"""The Stochastic Resonance Transformer: averages over views of any feature extractor, each moved back by its shift.

Mean on the token grid (`StochasticResonance`), on finer grids up to pixels (`FineResonance`), at a layer inside the
network (`ResumedResonance`), median and variance (`ShiftStatistic`, `ShiftVariance`), features that lean on their
neighbours where shifts disagree (`ConfidentResonance`), and averages over other views that can be undone: flips and
scales (`PerturbationMean`), whole patches (`WideShiftMean`). All are extractors.
"""

from srt_distill.ensemble.batching import ViewBatches, ViewsPerBatch
from srt_distill.ensemble.fine_grid import FineResonance
from srt_distill.ensemble.mean import StochasticResonance, aligned_maps, at_least_float32, mean_maps, shifted_maps
from srt_distill.ensemble.perturbations import HORIZONTAL_FLIP, Perturbation, PerturbationMean
from srt_distill.ensemble.resumed import PrefixTokens, ResumedResonance
from srt_distill.ensemble.scales import scale_changes
from srt_distill.ensemble.statistics import ConfidentResonance, ShiftStatistic, ShiftVariance, Statistic, confidence
from srt_distill.ensemble.wide_shifts import WideShiftMean, whole_patch_shifts

__all__ = [
    "HORIZONTAL_FLIP",
    "ConfidentResonance",
    "FineResonance",
    "Perturbation",
    "PerturbationMean",
    "PrefixTokens",
    "ResumedResonance",
    "ShiftStatistic",
    "ShiftVariance",
    "Statistic",
    "StochasticResonance",
    "ViewBatches",
    "ViewsPerBatch",
    "WideShiftMean",
    "aligned_maps",
    "at_least_float32",
    "confidence",
    "mean_maps",
    "scale_changes",
    "shifted_maps",
    "whole_patch_shifts",
]
