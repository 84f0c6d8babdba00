"""srt_distill: adapt a Vision Transformer to unlabeled images by distilling the Stochastic Resonance Transformer.

The public names, each loaded when it is first used, so that importing the package costs nothing. The commands do what
`adapt`, `embed`, `fit`, `distill_rounds`, `export_student`, `evaluate` and `compare` do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srt_distill.adaptation import adapt
    from srt_distill.backbone import BackboneOptions, FeatureExtractor, FeatureOptions, load_backbone
    from srt_distill.comparison import compare, evaluate, open_candidate, open_candidates
    from srt_distill.data import UnlabeledImages
    from srt_distill.embedding import embed
    from srt_distill.ensemble import StochasticResonance
    from srt_distill.ensemble.options import SRTOptions
    from srt_distill.exporting import export_student
    from srt_distill.runs import load_run
    from srt_distill.training.distillation import SRTDistillation
    from srt_distill.training.fit import fit
    from srt_distill.training.rounds import distill_rounds

__all__ = [
    "BackboneOptions",
    "FeatureExtractor",
    "FeatureOptions",
    "SRTDistillation",
    "SRTOptions",
    "StochasticResonance",
    "UnlabeledImages",
    "adapt",
    "compare",
    "distill_rounds",
    "embed",
    "evaluate",
    "export_student",
    "fit",
    "load_backbone",
    "load_run",
    "open_candidate",
    "open_candidates",
]

_HOMES = {
    "adaptation": ("adapt",),
    "backbone": ("BackboneOptions", "FeatureExtractor", "FeatureOptions", "load_backbone"),
    "comparison": ("compare", "evaluate", "open_candidate", "open_candidates"),
    "data": ("UnlabeledImages",),
    "embedding": ("embed",),
    "ensemble": ("StochasticResonance",),
    "ensemble.options": ("SRTOptions",),
    "exporting": ("export_student",),
    "runs": ("load_run",),
    "training.distillation": ("SRTDistillation",),
    "training.fit": ("fit",),
    "training.rounds": ("distill_rounds",),
}


__version__: str
"""Of the installed package; read from its metadata when asked for."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("srt-distill")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"srt_distill.{home}"), name)
    raise AttributeError(f"module 'srt_distill' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
