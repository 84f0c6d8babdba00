"""Backbones: the only room that knows timm.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.

A backbone is a plain timm model: no wrapper class, no renamed keys. This package loads one (from the hub, a folder or
a release file), describes it, reads feature maps off it, rebuilds it without weights and writes it out again.
"""

from srt_distill.backbone.adapters import add_adapters, paired_weights, plain_state
from srt_distill.backbone.checkpoints import read_torch_file, require_finite
from srt_distill.backbone.classification import classifier
from srt_distill.backbone.features import (
    BackboneInfo,
    FeatureExtractor,
    backbone_normalization,
    describe_backbone,
    set_normalization,
)
from srt_distill.backbone.loading import load_backbone
from srt_distill.backbone.names import nearest_models
from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.backbone.overlapping import overlap_tokens
from srt_distill.backbone.parameters import (
    TrainablePart,
    blank_image,
    choose_trained,
    group_by_rate,
    hash_weights,
    measure_weights,
    require_same_weights,
    select_trainable,
)
from srt_distill.backbone.position import PositionEmbedding, WholePositions
from srt_distill.backbone.saving import backbone_config, build_backbone, save_backbone

__all__ = [
    "BackboneInfo",
    "BackboneOptions",
    "ExecutionOptions",
    "FeatureExtractor",
    "FeatureOptions",
    "PositionEmbedding",
    "TrainablePart",
    "WholePositions",
    "add_adapters",
    "backbone_config",
    "backbone_normalization",
    "blank_image",
    "build_backbone",
    "choose_trained",
    "classifier",
    "describe_backbone",
    "group_by_rate",
    "hash_weights",
    "load_backbone",
    "measure_weights",
    "nearest_models",
    "overlap_tokens",
    "paired_weights",
    "plain_state",
    "read_torch_file",
    "require_finite",
    "require_same_weights",
    "save_backbone",
    "select_trainable",
    "set_normalization",
]
