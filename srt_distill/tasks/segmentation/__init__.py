"""Semantic segmentation from frozen features: labelled images on disk, scores, a linear head, nearest neighbours."""

from srt_distill.tasks.segmentation.linear import Nuclei, Segmentation
from srt_distill.tasks.segmentation.neighbours import SegmentationNeighbours

__all__ = ["Nuclei", "Segmentation", "SegmentationNeighbours"]
