"""DINO's way of resizing position embeddings, for numbers that must match its published ones.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

from typing import Literal

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

DINO_OFFSET = 0.1  # added to the new grid before the scale is taken (DINO and DINOv2, interpolate_pos_encoding)

PositionEmbedding = Literal["timm", "dino"]


class DinoPositionTransformer(VisionTransformer):
    """timm's vision transformer, but for how its position embedding is resized to another grid.

    timm asks for a size and antialiases; DINO asks for the scale (n + 0.1) / n0 and does not (vision_transformer.py of
    facebookresearch/dino). On 14x14 to 30x52 the two differ by about 4 %. Parameters, keys and the forward pass at the
    native grid are timm's.
    """

    def _pos_embed(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B n C"]:
        batch, rows, columns, channels = x.shape
        table = self.pos_embed
        if table is None:
            raise ValueError(
                "this model has no position embedding table to resize; load it with position_embedding='timm'"
            )
        num_prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        native = self.patch_embed.grid_size
        if native is None:
            raise ValueError("this model has no native token grid; load it with position_embedding='timm'")
        if (rows, columns) != tuple(native):
            grid = table[:, num_prefix:].unflatten(1, native).permute(0, 3, 1, 2)
            scale = ((rows + DINO_OFFSET) / native[0], (columns + DINO_OFFSET) / native[1])
            grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic").to(table.dtype)
            table = torch.cat([table[:, :num_prefix], grid.flatten(2).transpose(1, 2)], dim=1)
        prefix = [token.expand(batch, -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        tokens = x.reshape(batch, rows * columns, channels)
        if self.no_embed_class:
            return self.pos_drop(torch.cat([*prefix, tokens + table], dim=1))
        return self.pos_drop(torch.cat([*prefix, tokens], dim=1) + table)


def set_position_embedding(model: nn.Module, position_embedding: PositionEmbedding) -> None:
    """Choose, in place, how a model resizes its position embedding.

    Args:
        model: A timm model.
        position_embedding: `timm` leaves it as it is.

    Raises:
        ValueError: If `dino` is asked of a model that is no plain vision transformer with a table for a dynamic grid.
    """
    if position_embedding == "timm":
        return
    if type(model) is not VisionTransformer or model.pos_embed is None or not model.dynamic_img_size:
        raise ValueError(
            f"position_embedding='dino' does not fit {type(model).__name__}: DINO's resizing is for plain vision "
            "transformers with a table of position embeddings and images of any size; use position_embedding='timm'"
        )
    model.__class__ = DinoPositionTransformer


def get_position_embedding(model: nn.Module) -> PositionEmbedding:
    """How a model resizes its position embedding."""
    return "dino" if isinstance(model, DinoPositionTransformer) else "timm"
