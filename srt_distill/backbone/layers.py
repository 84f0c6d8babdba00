"""One way to say which features are meant: `-1`, `8:key`, `-1:prefix`.

Shape legend: B images, C channels, h w tokens, k prefix tokens.

A layer spec is a block number, 0-based, negatives counting from the last, with an optional facet behind a colon. The
same spec is understood wherever features are chosen: distilling, evaluating, visualising.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Facet = Literal["token", "query", "key", "value", "prefix"]
"""What is read at a layer.

token: the block's output, the patch tokens.
query, key, value: the projections in the block's attention, as they leave the linear layer (before any norm of single
    heads and before rotary positions), heads side by side. TokenCut and similar methods use keys.
prefix: class and register tokens of the block's output, side by side as the channels of one token that stands for the
    whole image: a map (B, k C, 1, 1).
"""


@dataclass(frozen=True)
class LayerSpec:
    """A layer and what is read there.

    Attributes:
        layer: 0-based block, negatives count from the last.
        facet: What is read.
    """

    layer: int
    facet: Facet = "token"


def parse_layer(spec: int | str) -> LayerSpec:
    """Read a layer spec.

    Args:
        spec: A block number, as a number or in writing, with an optional `:facet`.

    Returns:
        The spec taken apart; whether a backbone has such a layer is for the extractor to say.

    Raises:
        ValueError: If it is not of that form.
    """
    number, _, facet = str(spec).partition(":")
    facets = {name: name for name in get_args(Facet)}
    try:
        return LayerSpec(int(number), facets[facet or "token"])
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"layer spec {spec!r} is not understood; write a block number, optionally with a facet: -1, 8, "
            f"{', '.join(f'8:{name}' for name in facets)}"
        ) from error
