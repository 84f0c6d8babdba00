"""What a step minimises: distances of values and of relations between the student's maps and their targets.

Shape legend: B images, C channels, h w tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srt_distill.backbone.layers import parse_layer
from srt_distill.training.losses import Loss, feature_distance, relation_distance
from srt_distill.training.settings import RelationOptions


@dataclass(frozen=True)
class Objective:
    """The loss of a student that is read at some layers.

    Attributes:
        layers: Specs; relations are of maps, never of class and register tokens.
        weights: One per layer.
        loss: Distance of values.
        relations: How much it counts that tokens stand to one another as the target's do.
    """

    layers: tuple[int | str, ...]
    weights: tuple[float, ...]
    loss: Loss
    relations: RelationOptions

    def __call__(self, maps: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare the student's maps with what they should become.

        Args:
            maps: (B, C, h, w), one per layer.
            targets: The same.

        Returns:
            The loss, and its parts without gradient by name: `loss_layer_-1`, `relations_layer_-1`, ….
        """
        total, parts = torch.zeros((), device=maps[0].device), {}
        for spec, weight, ours, theirs in zip(self.layers, self.weights, maps, targets, strict=True):
            distance = parts[f"loss_layer_{spec}"] = feature_distance(ours, theirs, self.loss)
            if self.relations.weight and parse_layer(spec).facet != "prefix":
                related = relation_distance(ours, theirs, self.relations.temperature, self.relations.window_radius)
                parts[f"relations_layer_{spec}"] = related
                distance = distance + self.relations.weight * related
            total = total + weight * distance
        return total, {name: part.detach() for name, part in parts.items()}
