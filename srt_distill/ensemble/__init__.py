"""The Stochastic Resonance Transformer: averages over views of any feature extractor, each moved back by its shift.

Mean on the token grid (`StochasticResonance`), on finer grids up to pixels (`FineResonance`), median and variance
(`ShiftStatistic`), and averages over other views that can be undone exactly (`PerturbationMean`). All are extractors.
"""

from srt_distill.ensemble.batching import ViewBatches, ViewsPerBatch
from srt_distill.ensemble.fine_grid import FineResonance
from srt_distill.ensemble.mean import StochasticResonance, aligned_maps, at_least_float32, mean_maps, shifted_maps
from srt_distill.ensemble.perturbations import HORIZONTAL_FLIP, Perturbation, PerturbationMean
from srt_distill.ensemble.statistics import ShiftStatistic, Statistic

__all__ = [
    "HORIZONTAL_FLIP",
    "FineResonance",
    "Perturbation",
    "PerturbationMean",
    "ShiftStatistic",
    "Statistic",
    "StochasticResonance",
    "ViewBatches",
    "ViewsPerBatch",
    "aligned_maps",
    "at_least_float32",
    "mean_maps",
    "shifted_maps",
]
