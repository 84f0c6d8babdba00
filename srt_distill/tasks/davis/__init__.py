"""DAVIS-2017 video object segmentation by label propagation, with its J and F."""

from srt_distill.tasks.davis.label_propagation import LabelPropagator, PropagationOptions, propagate_labels
from srt_distill.tasks.davis.mask_files import score_masks, write_mask
from srt_distill.tasks.davis.sequence_scores import VideoObjectSegmentationMetric
from srt_distill.tasks.davis.task import Davis

__all__ = [
    "Davis",
    "LabelPropagator",
    "PropagationOptions",
    "VideoObjectSegmentationMetric",
    "propagate_labels",
    "score_masks",
    "write_mask",
]
