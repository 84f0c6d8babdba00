"""A vision transformer cut in two before a block: what enters it, and the rest of the network from there.

Shape legend: B images, C channels, H W pixels, h w tokens, k prefix tokens, n = k + h w, L blocks.

Neither half re-implements a forward pass. The model's own is run on a shallow copy in which blocks are replaced: those
not wanted by ones that pass their input on, and the one at the cut by one that notes, or supplies, its input. So
position embeddings, rotary positions and norms are the model's, whatever its family; weights are shared.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srt_distill.backbone.features import FeatureExtractor, describe_backbone
from srt_distill.backbone.layers import parse_layer


class _Passing(nn.Module):
    """A block that does nothing, and remembers what came to it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: Tensor | None = None

    def forward(self, tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        self.tokens = tokens
        return tokens


class _Fed(nn.Module):
    """A block that is given its input, whatever comes to it."""

    def __init__(self, block: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.block, self.tokens = block, tokens
        self.attn = getattr(block, "attn", None)  # where facets are read

    def forward(self, _: Tensor, *args: Any, **options: Any) -> Tensor:
        return self.block(self.tokens, *args, **options)


@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """A backbone in two halves, for averages that are taken between them.

    `split.resume(images, split.enter(images))` is `FeatureExtractor(model, layers, norm)(images)`, to the bit.

    Attributes:
        model: A backbone with a list of blocks, one per layer.
        layers: Layer specs of the maps that are wanted, as for `FeatureExtractor`.
        norm: Apply the final norm to maps of tokens.
        resume_at: l, the block whose input is given from outside, 0 for the embedded patches; negative from the end. L,
            the number of blocks, leaves nothing to run: maps are then those that were averaged.

    Raises:
        ValueError: If there is no such block, or the model has no list of blocks.
    """

    model: nn.Module
    layers: Sequence[int | str] = (-1,)
    norm: bool = True
    resume_at: int = -1

    def __post_init__(self) -> None:
        FeatureExtractor(self.model, self.layers, self.norm)  # refuses layers that are not there
        info = describe_backbone(self.model)
        if len(getattr(self.model, "blocks", ())) != info.num_layers:
            raise ValueError(
                f"{info.name} cannot be resumed at a block: it has no list of {info.num_layers} blocks as plain vision "
                "transformers have; leave resume_at out, so that SRT averages the maps themselves"
            )
        if not -info.num_layers <= self.resume_at <= info.num_layers:
            raise ValueError(
                f"resume_at {self.resume_at} is out of range; {info.name} can be resumed at blocks 0 to "
                f"{info.num_layers - 1} (or -{info.num_layers} to -1), and at {info.num_layers} has nothing left to run"
            )

    def enter(self, images: Float[Tensor, "B _K H W"]) -> tuple[Tensor, ...]:
        """Run the first half; as a function, an extractor.

        Args:
            images: Normalised with the backbone's mean and std.

        Returns:
            The map (B, C, h, w) that enters block l, the prefix tokens that do as (B, k C, 1, 1), both without channels
            if l = L; then the maps of those chosen layers that lie before the cut.
        """
        cut, num_layers = self._cut()
        early = [spec for spec in self.layers if self._layer(spec) < cut]
        if cut == num_layers:
            nothing = images.new_zeros(len(images), 0, 1, 1)
            return nothing, nothing, *FeatureExtractor(self.model, early, self.norm)(images)
        at_cut = _Passing()
        blocks: Any = self.model.blocks
        half = _with_blocks(self.model, [*blocks[:cut], at_cut, *blocks[cut + 1 :]])
        *maps, last = FeatureExtractor(half, (*early, cut), self.norm)(images)
        tokens, num_prefix = at_cut.tokens, describe_backbone(self.model).num_prefix_tokens
        grid = last.shape[-2], last.shape[-1]
        if tokens is None or tokens.ndim != 3 or tokens.shape[1] != num_prefix + grid[0] * grid[1]:
            raise ValueError(
                f"what enters block {cut} of {type(self.model).__name__} is not one row of prefix and patch tokens, so "
                "no average can take its place; leave resume_at out"
            )
        patches = tokens[:, num_prefix:].transpose(1, 2).unflatten(2, grid).contiguous()
        return patches, tokens[:, :num_prefix].flatten(1)[..., None, None], *maps

    def resume(self, images: Float[Tensor, "B _K H W"], averages: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run the second half, the blocks from the cut on, once.

        Args:
            images: Of the unshifted view; of its content nothing is used, but its size gives positions.
            averages: What `enter` gave, averaged or as it is.

        Returns:
            One map (B, C, h, w) per chosen layer, in the order chosen: of layers before the cut the average.
        """
        cut, _ = self._cut()
        patches, prefix, *early = averages
        late = [spec for spec in self.layers if self._layer(spec) >= cut]
        maps: tuple[Tensor, ...] = ()
        if late:
            width = patches.shape[1]
            tokens = torch.cat([prefix.view(len(prefix), -1, width), patches.flatten(2).transpose(1, 2)], dim=1)
            tokens = tokens.to(next(self.model.parameters()).dtype)
            blocks: Any = self.model.blocks
            skipped = [_Passing() for _ in range(cut)]
            rest = _with_blocks(self.model, [*skipped, _Fed(blocks[cut], tokens), *blocks[cut + 1 :]])
            maps = FeatureExtractor(rest, late, self.norm)(images)
        before, after = iter(early), iter(maps)
        return tuple(next(before if self._layer(spec) < cut else after) for spec in self.layers)

    def _cut(self) -> tuple[int, int]:
        num_layers = describe_backbone(self.model).num_layers
        return (self.resume_at if self.resume_at >= 0 else self.resume_at + num_layers), num_layers

    def _layer(self, spec: int | str) -> int:
        return parse_layer(spec).layer % describe_backbone(self.model).num_layers


def _with_blocks(model: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    """Make the same model with other blocks; all else is shared."""
    other = copy.copy(model)
    vars(other)["_modules"] = dict(vars(model)["_modules"])
    other.blocks = nn.Sequential(*blocks) if isinstance(model.blocks, nn.Sequential) else nn.ModuleList(blocks)
    return other
