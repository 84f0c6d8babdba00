"""The bilateral solver: a mask made smooth within, and sharp along, the edges of the photograph.

Shape legend: H W pixels, V vertices of the bilateral grid.

Source: Barron & Poole, "The fast bilateral solver" (ECCV 2016), with the constants of TokenCut's saliency script.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import sparse
from scipy.sparse.linalg import cg

RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
YUV_OFFSET = np.array([0.0, 128.0, 128.0])
NUM_BISTOCHASTIC_ROUNDS = 10
MIN_DIAGONAL = 1e-5  # of the preconditioner


def bilateral_solver(
    image: UInt8[np.ndarray, "H W 3"],
    target: Float[np.ndarray, "_ _"],
    *,
    cell: int = 16,
    luma: int = 16,
    chroma: int = 8,
    smoothness: float = 256.0,
    confidence: float = 0.999,
    num_iterations: int = 25,
    tolerance: float = 1e-5,
) -> Float[np.ndarray, "H W"]:
    """Smooth a map so that pixels of like colour and place get like values.

    Args:
        image: The photograph, RGB.
        target: The map, such as a mask of zeros and ones.
        cell: Side of a cell of the bilateral grid in pixels.
        luma: Its side in grey levels.
        chroma: Its side in levels of either colour difference.
        smoothness: λ, weight of smoothness against the target.
        confidence: Weight of the target, the same at every pixel.
        num_iterations: Steps of conjugate gradients at most.
        tolerance: Residual, relative to the right side, at which they end.

    Returns:
        The soft map. Its values may leave the target's range a little.

    Raises:
        ValueError: If image and target differ in size.
    """
    if image.shape[:2] != target.shape:
        raise ValueError(
            f"image is {image.shape[0]}x{image.shape[1]} pixels but the map to smooth {target.shape[0]}x"
            f"{target.shape[1]}; resize the map first"
        )
    vertices, vertex_of = _vertices(image, cell, luma, chroma)
    num_vertices = len(vertices)
    blur = _blur_matrix(vertices)
    mass, scaling = _bistochastise(blur, np.bincount(vertex_of, minlength=num_vertices).astype(float))
    weight = confidence * np.bincount(vertex_of, minlength=num_vertices)
    known = confidence * np.bincount(vertex_of, weights=target.ravel(), minlength=num_vertices)
    scale = sparse.diags_array(scaling)
    system = smoothness * (sparse.diags_array(mass) - scale @ blur @ scale) + sparse.diags_array(weight)
    jacobi = sparse.diags_array(1 / np.maximum(system.diagonal(), MIN_DIAGONAL))
    solution, _ = cg(system, known, x0=known / weight, rtol=tolerance, atol=0, maxiter=num_iterations, M=jacobi)
    return solution[vertex_of].reshape(target.shape)


def _vertices(
    image: UInt8[np.ndarray, "H W 3"], cell: int, luma: int, chroma: int
) -> tuple[Int[np.ndarray, "V 5"], Int[np.ndarray, " pixels"]]:
    """Cells of the bilateral grid that hold pixels (x, y, Y, U, V), and the cell of each pixel."""
    height, width = image.shape[:2]
    colors = image.astype(float) @ RGB_TO_YUV.T + YUV_OFFSET
    rows, columns = np.mgrid[:height, :width]
    position = np.stack([columns, rows], axis=-1)
    sides = np.array([cell, cell, luma, chroma, chroma])
    cells = (np.concatenate([position, colors], axis=-1) / sides).astype(np.int64).reshape(-1, 5)
    sizes = cells.max(0) + 1
    found, vertex_of = np.unique(np.ravel_multi_index(tuple(cells.T), tuple(sizes)), return_inverse=True)
    return np.stack(np.unravel_index(found, tuple(sizes)), axis=1), vertex_of.ravel()


def _blur_matrix(vertices: Int[np.ndarray, "V 5"]) -> sparse.csr_array:
    """Ten times a vertex plus its neighbours: one cell further along each axis, both ways, where there is a vertex."""
    num_vertices = len(vertices)
    sizes = tuple(vertices.max(0) + 2)  # one cell more, so that a step past the last is no vertex of the next row
    codes = np.asarray(np.ravel_multi_index(tuple(vertices.T), sizes))  # ascending, as the vertices are
    blur = 2 * vertices.shape[1] * sparse.eye_array(num_vertices, format="csr")
    for step in np.eye(vertices.shape[1], dtype=int):
        wanted = np.ravel_multi_index(tuple((vertices + step).T), sizes)
        place = np.searchsorted(codes, wanted).clip(max=num_vertices - 1)
        here = np.flatnonzero(codes[place] == wanted)
        pairs = sparse.csr_array((np.ones(len(here)), (here, place[here])), shape=(num_vertices, num_vertices))
        blur = blur + pairs + pairs.T
    return sparse.csr_array(blur)


def _bistochastise(
    blur: sparse.csr_array, mass: Float[np.ndarray, " V"]
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Scale the blur from both sides so that it keeps constants.

    Returns:
        Row sums m of the scaled blur, and the scaling n: diag(n) blur diag(n) 1 = m.
    """
    scaling = np.ones(len(mass))
    for _ in range(NUM_BISTOCHASTIC_ROUNDS):
        scaling = np.sqrt(scaling * mass / (blur @ scaling))
    return scaling * (blur @ scaling), scaling
