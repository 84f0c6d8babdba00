"""srt_distill: adapt a Vision Transformer to unlabeled images by distilling the Stochastic Resonance Transformer.

The public names, each loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srt_distill.backbone import FeatureExtractor, load_backbone
    from srt_distill.data import UnlabeledImages
    from srt_distill.ensemble import StochasticResonance
    from srt_distill.exporting import export_student
    from srt_distill.runs import load_run
    from srt_distill.tasks.davis.evaluation import evaluate_davis
    from srt_distill.training.distillation import SRTDistillation

__all__ = [
    "FeatureExtractor",
    "SRTDistillation",
    "StochasticResonance",
    "UnlabeledImages",
    "evaluate_davis",
    "export_student",
    "load_backbone",
    "load_run",
]

_HOMES = {
    "FeatureExtractor": "backbone",
    "SRTDistillation": "training.distillation",
    "StochasticResonance": "ensemble",
    "UnlabeledImages": "data",
    "evaluate_davis": "tasks.davis.evaluation",
    "export_student": "exporting",
    "load_backbone": "backbone",
    "load_run": "runs",
}


__version__: str
"""Of the installed package; read from its metadata when asked for."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("srt-distill")
    if name not in _HOMES:
        raise AttributeError(f"module 'srt_distill' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"srt_distill.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
