"""Slow, literal twins of every fast path: loops over pixels, written from the definition and nothing else."""

import numpy as np

# ---------------------------------------------------------------- SRT: Algorithm 1, pixel by pixel


def srt_per_pixel(extract, image, shifts, patch, border):
    """Algorithm 1 with loops: shift, extract, repeat each token over its pixels, shift back, average, pool.

    image: (3, H, W) array; extract: (3, H, W) array -> (C, h, w) array. Everything in float64.
    """
    _, height, width = image.shape
    total = count = None
    for dy, dx in shifts:
        moved = np.zeros_like(image)
        for y in range(height):
            for x in range(width):
                sy, sx = y - dy, x - dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    moved[:, y, x] = image[:, sy, sx]
        tokens = extract(moved)
        if total is None:
            total = np.zeros((tokens.shape[0], height, width))
            count = np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                sy, sx = y + dy, x + dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    total[:, y, x] += tokens[:, sy // patch, sx // patch]
                    count[y, x] += 1
    mean = total / (count if border == "zeros_counted" else len(shifts))
    channels = mean.shape[0]
    return mean.reshape(channels, height // patch, patch, width // patch, patch).mean((2, 4))


# ------------------------------------------------------------------------------------------------------- visualization


def pca_colors_by_svd(maps: list[np.ndarray]) -> list[np.ndarray]:
    """RGB of maps (C, h, w) under one projection: tokens stacked with equal weight a map, SVD in fp64, 1–99% range."""
    rows = [features.reshape(features.shape[0], -1).T.astype(np.float64) for features in maps]
    mean = np.mean([tokens.mean(0) for tokens in rows], axis=0)
    stacked = np.concatenate([(tokens - mean) / np.sqrt(len(tokens)) for tokens in rows])
    directions = np.linalg.svd(stacked, full_matrices=False)[2][:3]
    directions *= np.sign([row[np.abs(row).argmax()] for row in directions])[:, None]
    values = [(tokens - mean) @ directions.T for tokens in rows]
    low = np.min([np.quantile(v, 0.01, axis=0) for v in values], axis=0)
    high = np.max([np.quantile(v, 0.99, axis=0) for v in values], axis=0)
    return [
        ((v - low) / (high - low)).clip(0, 1).T.reshape(3, *m.shape[1:]) for v, m in zip(values, maps, strict=True)
    ]


def noise_pixel_by_pixel(features: np.ndarray, single: np.ndarray) -> np.ndarray:
    """‖features − single‖ at each position of the finer field (C, h, w), its token looked up by division."""
    rows, columns = features.shape[1] // single.shape[1], features.shape[2] // single.shape[2]
    noise = np.empty(features.shape[1:])
    for y in range(features.shape[1]):
        for x in range(features.shape[2]):
            noise[y, x] = np.linalg.norm(features[:, y, x] - single[:, y // rows, x // columns])
    return noise
