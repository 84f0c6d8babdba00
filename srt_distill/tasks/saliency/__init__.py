"""Salient regions: TokenCut masks, with and without the bilateral solver, against annotated ones."""

from srt_distill.tasks.saliency.task import Saliency

__all__ = ["Saliency"]
