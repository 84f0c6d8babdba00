"""Features read in tiles against those of one pass over the whole image: how near they are.

Claim:    tiles that have their crop of the whole image's position embedding are nearer to one pass than tiles with
          positions of their own; larger tiles and overlaps are nearer; none is equal, as attention is global
Command:  python recipes/benchmarks/tiling.py --images frames --weights deit_tiny_patch16_224.safetensors
Takes:    two minutes on 2 CPU cores for six images of 480x848 pixels

Mean cosine over tokens, and the error relative to the spread of the features of one pass; means over images. One pass
over the image moved by a pixel stands beside them.

Shape legend: C channels, h w tokens, H W pixels.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from measuring import RESULTS, write_table
from torch import Tensor, nn

from srt_distill.backbone import (
    FeatureExtractor,
    backbone_normalization,
    describe_backbone,
    load_backbone,
)
from srt_distill.data import ImageFolder
from srt_distill.embedding.tiling import Tiling, read_in_tiles
from srt_distill.visualization.gallery import resize_to_patches, to_tensor

CPU = torch.device("cpu")
MOVED = "one pass, image moved by a pixel"


def nearness(maps: Float[Tensor, "C h w"], wanted: Float[Tensor, "C h w"]) -> tuple[float, float]:
    """Give the mean cosine of tokens, and the error relative to the wanted features' spread about their mean."""
    spread = (wanted - wanted.mean((1, 2), keepdim=True)).norm()
    return float(F.cosine_similarity(maps, wanted, dim=0).mean()), float((maps - wanted).norm() / spread)


@torch.inference_mode()
def compare(
    model: nn.Module, pixels: UInt8[Tensor, "1 3 H W"], tilings: list[Tiling]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Read an image in one pass and in all tilings; give how near each is, by tiling and by whose positions it has."""
    extract, normalization = FeatureExtractor(model), backbone_normalization(model)

    def read(images: Tensor) -> Tensor:
        return extract(images)[0]

    images = normalization(pixels)
    whole = read(images)[0]
    found = {(MOVED, ""): nearness(read(images.roll(1, -1))[0], whole)}
    for tiling in tilings:
        for positions, seen in (("own", nn.Identity()), ("image", model)):
            tiled = read_in_tiles(read, seen, images, tiling)[0]
            found[f"{tiling.side}, {tiling.overlap}", positions] = nearness(tiled, whole)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs, evenly sampled")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224")
    parser.add_argument("--weights", type=Path, help="weights file of the backbone")
    parser.add_argument("--num_images", type=int, default=6)
    parser.add_argument("--short_side", type=int, default=480, help="pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[224, 64, 448, 64, 448, 128], help="sides and overlaps")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    model = load_backbone(options.backbone, weights=None if options.weights is None else str(options.weights))
    patch, source = describe_backbone(model).patch_size, ImageFolder(options.images)
    tilings = [Tiling(*pair, patch) for pair in zip(options.tiles[::2], options.tiles[1::2], strict=True)]
    chosen = np.unique(np.linspace(0, len(source) - 1, options.num_images).round().astype(int))
    pictures = [resize_to_patches(source.load(int(index)), options.short_side, patch) for index in chosen]
    measured = [compare(model, to_tensor(picture), tilings) for picture in pictures]
    means = {name: np.mean([found[name] for found in measured], axis=0) for name in measured[0]}
    names = [MOVED, *(f"{tiling.side}, {tiling.overlap}" for tiling in tilings)]
    shown = {name: "{:.3f}, {:.2f}".format(*mean) for name, mean in means.items()}
    rows = [
        [name, shown.get((name, "own"), ""), shown.get((name, "image"), shown.get((name, ""), ""))] for name in names
    ]
    claim = f"""Tiles against one pass over the whole image, {options.backbone}, {len(pictures)} photographs, short side
{options.short_side} pixels: mean cosine over tokens, and error relative to the features' spread."""
    header = ["tile, overlap", "own positions", "the image's (`--tile`)"]
    write_table(options.output, "tiling", claim, CPU, header, rows)


if __name__ == "__main__":
    main()
