"""TokenCut: the foreground of an image as one side of a normalised cut through its tokens.

Shape legend: C channels, h w tokens, N = h w.

Source: Wang et al., "Self-supervised transformers for unsupervised object discovery using normalized cut" (CVPR 2022).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from srt_distill.tasks.regions.components import seed_component

FAILED_BELOW, FAILED_ABOVE = 0.05, 0.95  # share of edges outside which the graph says little of the image
SAME_MAGNITUDE = 1e-9  # relative; entries of an eigenvector that only rounding tells apart
MIN_LANCZOS_TOKENS = 64  # fewer are solved densely
KRYLOV_SIZE, NUM_RESTARTS = 32, 4  # some 120 products in all, about what the dense solver costs at 1,560 tokens
TOLERANCE: Any = 1e-12  # of eigenvalues, relative; SciPy's annotation says int
MAX_ERROR = 1e-7  # of the unit eigenvector, by its residual and the gap to the next eigenvalue


@dataclass(frozen=True)
class CutOptions:
    """The graph that TokenCut cuts.

    Args:
        threshold: τ, cosine above which (strictly) two tokens are joined by an edge of weight 1.
        weak_edge: ε, weight of all other edges.
    """

    threshold: float = 0.2
    weak_edge: float = 1e-5


@dataclass(frozen=True, eq=False)
class Cut:
    """What TokenCut finds.

    Attributes:
        region: Foreground: the seed's connected part of its side.
        vector: Second smallest generalised eigenvector at every token; its sign means nothing.
        seed: Index of the token where the vector is largest in magnitude, row by row.
        edge_share: Share of pairs of tokens that are joined.
    """

    region: Bool[np.ndarray, "h w"]
    vector: Float[np.ndarray, "h w"]
    seed: int
    edge_share: float

    @property
    def failed(self) -> bool:
        """Whether nearly all pairs of tokens are joined, or nearly none, so that the cut is arbitrary."""
        return not FAILED_BELOW <= self.edge_share <= FAILED_ABOVE


def token_cut(features: Float[Tensor, "C h w"], options: CutOptions | None = None) -> Cut:
    """Cut a map of keys in two and take the side of the seed.

    Args:
        features: Keys of one image.
        options: The graph; TokenCut's own by default.

    Raises:
        ValueError: If there is one token only.
    """
    options = options or CutOptions()
    grid = features.shape[1], features.shape[2]
    graph = similarity_graph(features, options.threshold)
    vector = second_eigenvector(graph, options.weak_edge)
    inside, seed = choose_side(vector)
    return Cut(seed_component(inside.reshape(grid), seed), vector.reshape(grid), seed, edge_share(graph))


def similarity_graph(features: Float[Tensor, "C h w"], threshold: float) -> Bool[np.ndarray, "N N"]:
    """Join tokens whose cosine is above the threshold.

    Of a pair whose cosine is rounded differently in its two orders the one below the diagonal counts, the half of the
    matrix that LAPACK looks at.
    """
    tokens = F.normalize(features.flatten(1).T.float(), dim=1)
    below = torch.tril(tokens @ tokens.T > threshold)
    return (below | below.T).cpu().numpy()


def edge_share(graph: Bool[np.ndarray, "N N"]) -> float:
    """Share of pairs of different tokens that are joined."""
    num_tokens = len(graph)
    return float((graph.sum() - np.trace(graph)) / (num_tokens * (num_tokens - 1)))


def second_eigenvector(graph: Bool[np.ndarray, "N N"], weak_edge: float) -> Float[np.ndarray, " N"]:
    """Second smallest solution v of (D - A) v = λ D v, with vᵀ D v = 1 and an arbitrary sign.

    A is 1 on edges and `weak_edge` elsewhere, D its row sums. The problem is that of M = D^-½ A D^-½, whose largest
    eigenvalue, 1, belongs to D^½ 1: with that vector projected out, the largest remaining one is sought by Lanczos
    iterations, and by LAPACK where these do not get there or the next eigenvalue is too near.

    Raises:
        ValueError: If there is one token only.
    """
    if len(graph) < 2:
        raise ValueError("an image of one token cannot be cut; use larger images or a smaller patch")
    weights = np.where(graph, 1.0, weak_edge)
    root = np.sqrt(weights.sum(1))
    weights /= root[:, None]
    weights /= root
    vector = _largest_but_trivial(weights, root / np.linalg.norm(root))
    if vector is None:
        index = len(graph) - 2
        vector = eigh(weights, subset_by_index=[index, index], check_finite=False)[1][:, 0]
    return vector / root


def _largest_but_trivial(
    weights: Float[np.ndarray, "N N"], trivial: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"] | None:
    """Eigenvector of the largest eigenvalue besides `trivial`'s, or None if it is not certain to `MAX_ERROR`."""
    if len(weights) < MIN_LANCZOS_TOKENS:
        return None

    def multiply(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel()
        return weights @ vector - trivial * (trivial @ vector)

    start = np.random.default_rng(0).standard_normal(len(weights))
    operator: Any = LinearOperator(weights.shape, matvec=multiply, dtype=weights.dtype)  # pyright: ignore[reportCallIssue]
    try:
        values, vectors = eigsh(
            operator, k=2, which="LA", tol=TOLERANCE, ncv=KRYLOV_SIZE, maxiter=NUM_RESTARTS, v0=start
        )
    except ArpackError:
        return None
    second, third, vector = values.max(), values.min(), vectors[:, values.argmax()]
    residual = np.linalg.norm(multiply(vector) - second * vector)
    return vector if residual <= MAX_ERROR * (second - third) else None


def choose_side(vector: Float[np.ndarray, " N"]) -> tuple[Bool[np.ndarray, " N"], int]:
    """Split tokens at the mean of the eigenvector and take the side of its largest magnitude, whatever its sign.

    Returns:
        The side, and the seed. Of tokens that share the largest magnitude up to rounding it is the first.
    """
    magnitude = np.abs(vector)
    seed = int(np.argmax(magnitude >= magnitude.max() * (1 - SAME_MAGNITUDE)))
    inside = vector > vector.mean()
    return (inside if inside[seed] else ~inside), seed
