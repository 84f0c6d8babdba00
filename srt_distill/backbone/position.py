"""Position embeddings: DINO's way of resizing them, for its published numbers, and those of a part of an image.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

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


class WholePositions:
    """The position embedding of a whole image, for a model that is shown its parts one by one.

    A model resizes its table to what it is shown, so that a part looks like an image of its own. Here it gets that
    part's crop of the table as resized for the whole, and class and register tokens as ever. Models without such a
    table are left as they are.

    Args:
        model: A timm model in eval mode.
        grid: Tokens of the whole image, rows and columns.
    """

    def __init__(self, model: nn.Module, grid: tuple[int, int]) -> None:
        self.model: Any = model  # whose way to add positions is exchanged
        self.grid = grid
        self.table: Tensor | None = None
        if isinstance(model, VisionTransformer) and model.pos_embed is not None and model.dynamic_img_size:
            empty = model.pos_embed.new_zeros(1, *grid, model.embed_dim)
            with torch.inference_mode():
                self.table = model._pos_embed(empty)  # what it adds to tokens, and the prefix

    @contextmanager
    def of_part(self, row: int, column: int, rows: int, columns: int) -> Iterator[None]:
        """Show the model a part, in the block's duration.

        Args:
            row: First row of tokens.
            column: First column.
            rows: How many.
            columns: How many. Images of another grid, such as those at another scale, get what they always do.
        """
        if self.table is None:
            yield
            return
        num_prefix, usual = self.table.shape[1] - self.grid[0] * self.grid[1], self.model._pos_embed
        prefix, whole = self.table[:, :num_prefix], self.table[:, num_prefix:].unflatten(1, self.grid)
        part = whole[:, row : row + rows, column : column + columns]

        def add_positions(tokens: Tensor) -> Tensor:
            if tokens.shape[1:3] != part.shape[1:3]:
                return usual(tokens)
            return torch.cat([prefix.expand(len(tokens), -1, -1), (tokens + part).flatten(1, 2)], dim=1)

        self.model._pos_embed = add_positions
        try:
            yield
        finally:
            del self.model._pos_embed
