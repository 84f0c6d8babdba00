"""Monocular depth from frozen features: pairs of images and depth maps, heads, losses, scores and the task."""

from srt_distill.tasks.depth.task import Depth

__all__ = ["Depth"]
