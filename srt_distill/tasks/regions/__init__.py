"""Regions found in one image's features without any training: TokenCut, LOST and the bilateral solver."""

from srt_distill.tasks.regions.bilateral_solver import bilateral_solver
from srt_distill.tasks.regions.lost import lost
from srt_distill.tasks.regions.token_cut import Cut, CutOptions, token_cut

__all__ = ["Cut", "CutOptions", "bilateral_solver", "lost", "token_cut"]
