"""LOST: an object as the tokens that correlate with the token that correlates with the fewest.

Shape legend: C channels, h w tokens, N = h w.

Source: Siméoni et al., "Localizing objects with self-supervised transformers and no labels" (BMVC 2021).
"""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from srt_distill.tasks.regions.components import seed_component

NUM_CANDIDATES = 100  # the paper's k: tokens of lowest degree that the seed may expand to


def lost(features: Float[Tensor, "C h w"], num_candidates: int = NUM_CANDIDATES) -> tuple[Bool[np.ndarray, "h w"], int]:
    """Find one object.

    Tokens are joined where their keys, as they are, have a positive product. The seed has the fewest neighbours; among
    equals the first counts, where the authors' sort leaves it open.

    Args:
        features: Keys of one image.
        num_candidates: Tokens of lowest degree among which those that correlate with the seed join it.

    Returns:
        The region, never empty, and the seed's index, row by row.
    """
    grid = features.shape[1], features.shape[2]
    tokens = features.flatten(1).T.float()
    products = (tokens @ tokens.T).cpu().numpy()
    joined = products > 0
    degrees = joined.sum(1) - np.diagonal(joined)
    lowest = np.argsort(degrees, kind="stable")[:num_candidates]
    seed = int(lowest[0])
    similar = lowest[joined[seed, lowest]]
    inside = products[similar].sum(0) > 0
    inside[seed] = True  # a token of nothing but zeros is its own object
    return seed_component(inside.reshape(grid), seed), seed
