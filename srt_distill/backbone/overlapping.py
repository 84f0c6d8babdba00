"""Overlapping tokens: a finer token grid in one pass, by a patch embedding with a smaller stride.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side and s stride in pixels.

Amir et al. (2021, "Deep ViT Features as Dense Visual Descriptors") move the patch window by less than its side, and
resize the position embedding to the grid that comes out; the SRT paper's Table 1 compares with that. The cost of
attention grows with the fourth power of p/s, where SRT's grows with the number of passes.
"""

import copy
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class OverlappingPatchEmbed(PatchEmbed):
    """timm's patch embedding with a stride below its patch side; `patch_size` is the stride, which sets the grid.

    The image is padded by p - s repeated edge pixels, half on either side, so that there are exactly H/s x W/s tokens
    and each lies in the middle of its cell of s pixels, as the resized position embedding has it. Where p - s is odd,
    the cells are half a pixel off.
    """

    def forward(self, x: Float[Tensor, "B K H W"]) -> Float[Tensor, "B *grid"]:
        """Tokens of the padded image, in the layout that the model expects."""
        extra = self.proj.kernel_size[0] - self.proj.stride[0]
        before, after = extra // 2, extra - extra // 2
        return super().forward(F.pad(x, (before, after, before, after), mode="replicate"))


def overlap_tokens(model: nn.Module, stride: int) -> nn.Module:
    """Make a backbone whose patches overlap; it shares its weights with the given one, which stays as it is.

    Args:
        model: A plain vision transformer.
        stride: s, in pixels; p divided by a whole number. p itself gives the model unchanged.

    Returns:
        The model on the finer grid: image sides must be multiples of s, maps have H/s x W/s tokens.

    Raises:
        ValueError: If the model is no plain vision transformer with a table of position embeddings and images of any
            size, or the stride does not divide its patch side.
    """
    embed: Any = getattr(model, "patch_embed", None)
    if not isinstance(model, VisionTransformer) or type(embed) is not PatchEmbed:
        raise ValueError(
            f"tokens of {type(model).__name__} cannot overlap: only plain vision transformers cut the image by one "
            "strided convolution; leave this baseline out"
        )
    if model.pos_embed is None or not model.dynamic_img_size:
        raise ValueError(
            f"tokens of {type(model).__name__} cannot overlap: its position embedding is not resized to other grids; "
            "leave this baseline out"
        )
    patch = embed.patch_size[0]
    if stride < 1 or patch % stride:
        raise ValueError(f"token stride {stride} does not divide the patch side {patch}; use {patch} // 2 or smaller")
    finer: Any = copy.deepcopy(model, {id(weight): weight for weight in (*model.parameters(), *model.buffers())})
    finer.patch_embed.__class__ = OverlappingPatchEmbed
    finer.patch_embed.proj.stride = (stride, stride)
    finer.patch_embed.patch_size = (stride, stride)
    finer.feature_info = [{**layer, "reduction": stride} for layer in finer.feature_info]
    return finer
