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
