"""Queries, keys and values of a block's attention as feature maps.

Shape legend: B images, C channels, h w tokens, k prefix tokens, n = k + h w.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Projection = Literal["query", "key", "value"]
PROJECTIONS: tuple[Projection, ...] = ("query", "key", "value")  # in the order of a fused qkv layer


def find_attention(model: nn.Module, layer: int) -> nn.Module:
    """Find the attention of a block, if its queries, keys and values can be told apart.

    Args:
        model: A backbone.
        layer: 0-based block.

    Raises:
        ValueError: If the blocks are not those of a plain vision transformer, or their attention is not of this kind.
    """
    blocks, layers = getattr(model, "blocks", ()), getattr(model, "feature_info", ())
    attention = getattr(blocks[layer], "attn", None) if len(blocks) == len(layers) else None
    fused = getattr(attention, "qkv", None)
    if isinstance(attention, nn.Module) and (
        (fused is not None and fused.out_features % 3 == 0)
        or all(hasattr(attention, f"{p[0]}_proj") for p in PROJECTIONS)
    ):
        return attention
    raise ValueError(
        f"{type(model).__name__} has no queries, keys and values to read at layer {layer}: they need the attention of "
        f"a plain vision transformer; use {layer} instead"
    )


@contextmanager
def capture_attention_inputs(model: nn.Module, layers: Iterable[int]) -> Iterator[dict[int, Tensor]]:
    """Note what goes into the attention of the given blocks while the context is open.

    Args:
        model: A backbone.
        layers: 0-based blocks.

    Yields:
        A dictionary that the model's next pass fills: block to tokens.
    """
    seen: dict[int, Tensor] = {}

    def note(layer: int):
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[layer] = inputs[0]

        return hook

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(find_attention(model, layer).register_forward_pre_hook(note(layer)))
        yield seen


def project_tokens(
    attention: nn.Module, tokens: Float[Tensor, "B *_n C"], facet: Projection, grid: tuple[int, int], num_prefix: int
) -> Float[Tensor, "B _C h w"]:
    """Read queries, keys or values of patch tokens, as the attention's linear layer gives them.

    Args:
        attention: From `find_attention`.
        tokens: What went into it: (B, n, C), or (B, h, w, C) where there are no prefix tokens.
        facet: Which of the three.
        grid: (h, w).
        num_prefix: Class and register tokens before the patch tokens.

    Returns:
        (B, C, h, w), the channels of all heads side by side.

    Raises:
        ValueError: If the attention saw windows of the image rather than the image.
    """
    rows, columns = grid
    if tokens.ndim == 4 and tokens.shape[1:3] == grid:
        tokens, num_prefix = tokens.flatten(1, 2), 0
    if tokens.ndim != 3 or tokens.shape[1] != num_prefix + rows * columns:
        raise ValueError(
            f"the attention at this layer sees windows {tuple(tokens.shape)}, not all {rows}x{columns} tokens of the "
            f"image, so there is no map of each {facet}; choose a layer with global attention, or no facet"
        )
    projected = _project(attention, tokens[:, num_prefix:], PROJECTIONS.index(facet))
    return projected.transpose(1, 2).unflatten(2, grid).contiguous()


def _project(attention: Any, tokens: Tensor, part: int) -> Tensor:
    if getattr(attention, "qkv", None) is None:
        return (attention.q_proj, attention.k_proj, attention.v_proj)[part](tokens)
    projected = attention.qkv(tokens).chunk(3, dim=-1)[part]
    names = ("q_bias", "k_bias", "v_bias")  # BEiT and EVA keep them outside the layer
    bias = getattr(attention, names[part], None)
    return projected + bias if torch.is_tensor(bias) else projected
