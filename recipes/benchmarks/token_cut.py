"""TokenCut against its original formulation: time per image and the same cut, on the same keys.

Claim:    at the tokens of a 480p image no slower than the original, the same region
Source:   TokenCut (Wang et al., CVPR 2022); the baseline is written from it: 1 for cosines above the threshold and 1e-5
          elsewhere, degrees on a diagonal, and SciPy's dense generalised `eigh` of (D - A, D) for the second
          and third smallest; the side of the entry of largest magnitude, and its connected part.
Command:  python recipes/benchmarks/token_cut.py --images photographs --weights deit_tiny_patch16_224.safetensors
Takes:    about a minute on 2 CPU cores; without --images and --weights on smooth random keys

Keys are those of the last block of `--backbone`, or smooth random fields. Features are extracted before and not timed.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from measuring import RESULTS, speed_up, write_table
from scipy.linalg import eigh
from scipy.ndimage import label
from torch import Tensor

from srt_distill.backbone import FeatureExtractor, backbone_normalization, describe_backbone, load_backbone
from srt_distill.data.files import ImageFolder
from srt_distill.latency import time_pairs
from srt_distill.tasks.regions import token_cut
from srt_distill.visualization.gallery import resize_to_patches, to_tensor

CPU = torch.device("cpu")


def smooth_keys(size: tuple[int, int], seed: int, channels: int = 192) -> Float[Tensor, "C h w"]:
    """Make a smooth random field under noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, size[0] // 8 + 2, size[1] // 8 + 2, generator=generator)
    return F.interpolate(coarse, size, mode="bilinear")[0] + 0.3 * torch.randn(channels, *size, generator=generator)


def real_keys(folder: Path, number: int, backbone: str, weights: Path, short_side: int) -> list[Tensor]:
    """Keys (C, h, w) of the last block on the first images of a folder."""
    model = load_backbone(backbone, weights=str(weights))
    extract, normalization = FeatureExtractor(model, ("-1:key",)), backbone_normalization(model)
    images, keys = ImageFolder(folder), []
    for index in range(min(number, len(images))):
        picture = resize_to_patches(images.load(index), short_side, describe_backbone(model).patch_size)
        with torch.inference_mode():
            keys.append(extract(normalization(to_tensor(picture)))[0][0].clone())
    return keys


def cut_densely(features: Float[Tensor, "C h w"]) -> Bool[np.ndarray, "h w"]:
    """Cut as the original does; gives the region."""
    grid = features.shape[1], features.shape[2]
    tokens = F.normalize(features.flatten(1).T, dim=1)
    similarity = (tokens @ tokens.T).numpy()
    weights = np.where(similarity > 0.2, 1.0, 1e-5)
    degrees = np.diag(weights.sum(1))
    _, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    vector = vectors[:, 0]
    seed = np.argmax(np.abs(vector))
    inside = vector > vector.mean()
    inside = inside if inside[seed] else ~inside
    parts = np.zeros(grid, dtype=np.int32)
    label(inside.reshape(grid), output=parts)
    return parts == parts[np.unravel_index(seed, grid)]


def measure(features: Float[Tensor, "C h w"], name: str, num_pairs: int) -> list[str]:
    """One row of the table."""
    ours, original = partial(token_cut, features), partial(cut_densely, features)
    latency = time_pairs(ours, original, CPU, max_pairs=num_pairs, budget=40.0)
    cut, literal = ours(), original()
    return [
        name,
        "x".join(map(str, features.shape[1:])),
        f"{cut.edge_share:.2f}",
        f"{1000 * latency.seconds:.0f} ms",
        f"{1000 * latency.reference_seconds:.0f} ms",
        speed_up(latency),
        str(int((cut.region != literal).sum())),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs; with --weights, keys of a model on them")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224")
    parser.add_argument("--weights", type=Path, help="weights file of the backbone")
    parser.add_argument("--num_images", type=int, default=4)
    parser.add_argument("--short_side", type=int, default=480, help="pixels; random keys stand for 480x832")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch, for both ways")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if (options.images is None) != (options.weights is None):
        parser.error("--images and --weights go together: keys are those of real photographs, or random")
    torch.set_num_threads(options.threads)
    if options.images is None:
        size = options.short_side // 16, options.short_side * 832 // 480 // 16
        keys = [smooth_keys(size, seed) for seed in range(options.num_images)]
    else:
        keys = real_keys(options.images, options.num_images, options.backbone, options.weights, options.short_side)
    rows = [measure(features, f"image {number}", options.pairs) for number, features in enumerate(keys, start=1)]
    source = "smooth random fields" if options.images is None else f"of {options.backbone} on photographs"
    claim = f"""TokenCut on one image against its original formulation (dense generalised eigenvectors), on the same
keys ({source}), from keys to region. Times and ratios are medians over pairs timed in turns."""
    header = ["image", "tokens", "edges", "ours", "original", "faster", "tokens differing"]
    write_table(options.output, "token_cut", claim, CPU, header, rows)


if __name__ == "__main__":
    main()
