"""Claim: of the unbiased ways to draw k shifts a step, a randomly moved lattice has the least variance at every k.

In every scheme each of the (2d+1)² shifts comes up equally often, so the target's mean is the full grid's. What differs
is how far one draw's target lies from it. Measured on the aligned feature maps of real frames: the mean squared
distance of a draw's target from the full grid's, divided by what k independent draws have. That distance is a quadratic
form of the draw in one matrix, the inner products of the centred maps: 49 passes a frame serve every scheme and draw.

  plain       k independent shifts                                        1 by definition
  distinct    k different shifts
  antithetic  pairs s and -s (and one plain shift where k is odd)
  stratified  the grid cut into k equal cells, one shift in each
  latin       a random permutation: rows evenly used, columns evenly used
  lattice     what `draw_shifts` does: a fixed rank-1 lattice, moved by a uniform offset modulo 2d+1

Run:       python recipes/draw_schemes.py --data path/to/DAVIS --weights path/to/deit_tiny_patch16_224.safetensors
           (half a minute on one CPU core)
Expected:  lattice .57 of the variance of plain draws at k = 4 and .37 at k = 7; the next best, latin, .61 and .46.
           Writes results.jsonl and README.md to recipes/results/draw_schemes and skips finished rows.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch

from srt_distill.backbone import FeatureExtractor, describe_backbone, load_backbone
from srt_distill.data import DavisFrames, UnlabeledImages
from srt_distill.ensemble import aligned_maps
from srt_distill.ensemble.shifts import grid_shifts, lattice_shifts
from srt_distill.files import write_file

Draws = np.ndarray
"""(n, k) n draws of k shifts, each a number in reading order of the grid."""


def draw_plain(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """Independent draws."""
    return random.integers(0, side**2, (n, k))


def draw_distinct(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """Without repetition."""
    return np.argsort(random.random((n, side**2)), axis=1)[:, :k]


def draw_antithetic(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """Each shift with its opposite; an odd one alone."""
    half = draw_plain(side, k // 2, n, random)
    return np.concatenate([half, side**2 - 1 - half, draw_plain(side, k % 2, n, random)], axis=1)


def draw_stratified(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """One point in each of a x b = k equal cells of the square, rounded down to the grid."""
    rows = max(a for a in range(1, int(k**0.5) + 1) if k % a == 0)
    down, right = (axis.ravel() for axis in np.indices((rows, k // rows)))
    y = (down + random.random((n, k))) * side / rows
    x = (right + random.random((n, k))) * side * rows / k
    return y.astype(int) * side + x.astype(int)


def draw_latin(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """As many equal strips an axis as points, each used once, paired at random."""
    y = (np.arange(k) + random.random((n, k))) * side / k
    x = (np.argsort(random.random((n, k)), axis=1) + random.random((n, k))) * side / k
    return y.astype(int) * side + x.astype(int)


def draw_lattice(side: int, k: int, n: int, random: np.random.Generator) -> Draws:
    """All (2d+1)² moves of the lattice, of which a draw is one: no sampling error."""
    radius = side // 2
    moves = [lattice_shifts(radius, k, (down, right)) for down in range(side) for right in range(side)]
    return np.array([[(dy + radius) * side + dx + radius for dy, dx in shifts] for shifts in moves])


SCHEMES: dict[str, Callable[[int, int, int, np.random.Generator], Draws]] = {
    "plain": draw_plain,
    "distinct": draw_distinct,
    "antithetic": draw_antithetic,
    "stratified": draw_stratified,
    "latin": draw_latin,
    "lattice": draw_lattice,
}


def measure_products(options: argparse.Namespace) -> np.ndarray:
    """Inner products (n, n) of the centred maps of the n shifts, a mean over frames, tokens and channels."""
    model = load_backbone(options.backbone, weights=options.weights)
    info = describe_backbone(model)
    data = UnlabeledImages(
        DavisFrames(options.data, "train"),
        crop_size=tuple(options.crop),
        margin=options.radius,
        scale=options.scale,
        held_out=options.frames,
        batch_size=4,
        num_workers=0,
        patch=info.patch_size,
    )
    data.setup("fit")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (info.mean, info.std))
    total, frames = np.zeros(()), 0
    for batch in cast(Iterable[torch.Tensor], data.val_dataloader()):
        images = (batch / 255 - mean) / std
        aligned = aligned_maps(
            FeatureExtractor(model), images, grid_shifts(options.radius), radius=options.radius, margin=options.radius
        )
        with torch.inference_mode():
            maps = torch.stack([maps[0].flatten() for maps in aligned]).double().numpy()
        maps -= maps.mean(0)
        total = total + maps @ maps.T / maps.shape[1] * len(batch)
        frames += len(batch)
    return total / frames


def variance(products: np.ndarray, draws: Draws) -> float:
    """Mean squared distance of the draws' targets from the full grid's."""
    return float(products[draws[:, :, None], draws[:, None, :]].mean((1, 2)).mean())


def render(rows: dict[int, dict]) -> str:
    """The table, lowest variance of a row in bold."""
    lines = ["# How to draw k shifts: variance of the target, relative to independent draws", ""]
    lines += [f"| k | {' | '.join(SCHEMES)} |", "|---|" + "---|" * len(SCHEMES)]
    for k, row in sorted(rows.items()):
        values = [row[name] for name in SCHEMES]
        cells = [f"**{v:.3f}**" if v == min(values) and k > 1 else f"{v:.3f}" for v in values]
        lines.append(f"| {k} | {' | '.join(cells)} |")
    settings = next(iter(rows.values()))["settings"]
    lines += ["", "; ".join(f"{name} {value}" for name, value in settings.items())]
    return "\n".join([*lines, "", "`python recipes/draw_schemes.py` makes this table; its head explains the schemes."])


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/DAVIS"), help="DAVIS folder")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224", help="timm name, local-dir: or hf-hub:")
    parser.add_argument("--weights", help="weights file of a timm name")
    parser.add_argument("--frames", type=int, default=24, help="how many frames")
    parser.add_argument(
        "--crop", type=int, nargs=2, default=(112, 192), help="pixels of a frame's centre, even patches"
    )
    parser.add_argument("--scale", type=float, default=0.5, help="factor on the frames' size before cropping")
    parser.add_argument("--radius", type=int, default=3, help="d, in pixels")
    parser.add_argument("--num_shifts", type=int, nargs="+", default=(1, 2, 4, 7, 9, 16, 25), help="the k")
    parser.add_argument("--draws", type=int, default=20000, help="draws a scheme")
    parser.add_argument("--output", type=Path, default=Path("recipes/results/draw_schemes"))
    options = parser.parse_args()

    settings = {name: getattr(options, name) for name in ("backbone", "frames", "scale", "radius", "draws")}
    settings["crop"] = list(options.crop)
    file = options.output / "results.jsonl"
    finished = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    rows = {row["k"]: row for row in finished if row["settings"] == settings}
    missing = [k for k in options.num_shifts if k not in rows]
    if missing:
        products, side = measure_products(options), 2 * options.radius + 1
        for k in missing:
            random, plain = np.random.default_rng(k), float(np.trace(products)) / side**2 / k
            relative = {
                name: variance(products, draw(side, k, options.draws, random)) / plain
                for name, draw in SCHEMES.items()
                if name != "plain"
            }
            rows[k] = {"settings": settings, "k": k, "plain": 1.0, "plain_variance": plain, **relative}
        write_file(file, "".join(json.dumps(row) + "\n" for row in rows.values()))
    table = render(rows)
    write_file(options.output / "README.md", table + "\n")
    print(table)


if __name__ == "__main__":
    main()
