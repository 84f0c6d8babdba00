"""Features of images by any backbone, in one file: what `srt-distill embed` does, as a function.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor
from tqdm import tqdm

from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.comparison import SINGLE_PASS, Model, load_model, under_srt
from srt_distill.data.recognition import recognise_images
from srt_distill.embedding.loading import Batch, ResizedImages, load_batches
from srt_distill.embedding.parts import IMAGES_PER_PART, Parts
from srt_distill.embedding.tiling import Tiling, choose_tiling, read_in_tiles
from srt_distill.ensemble.options import SRTOptions
from srt_distill.files import require_writable
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.descriptors import describe_images

Pooling = Literal["dense", "mean", "class"]
"""dense: the map of every image. mean: its mean over tokens. class: the class token, after the final norm."""


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        output: The file.
        num_images: Images in it.
        num_unreadable: Images that could not be read; each was named in a warning.
    """

    output: Path
    num_images: int
    num_unreadable: int


def embed(
    backbone: BackboneOptions | str,
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    pooling: Pooling = "mean",
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SINGLE_PASS,
    execution: ExecutionOptions = ExecutionOptions(),
    short_side: int = 480,
    tile: int | None = None,
    overlap: int | None = None,
    white: float | None = None,
    batch_size: int = 8,
    num_workers: int = 1,
    half: bool = False,
    progress: bool = True,
) -> Embedded:
    """Write the features of images to one file, with their names: for FAISS, notebooks, heads of your own.

    Any backbone, stock or adapted, without a training run. Killed, the same call goes on. Of safetensors, `dense` has a
    tensor (C, h, w) per image under its name; pooled features are one tensor `features` (N, C), and the names a JSON
    list in the metadata. Of Parquet there is a row per image: name, features, and of dense ones channels, height and
    width.

    Args:
        backbone: A model of timm, an export, a run; or its name.
        images: A folder of images, videos or shards; a text file with a path per line; a data set; or several of these.
        output: File that ends in .safetensors or .parquet; an older one is replaced.
        pooling: `dense` for maps (--dense on the command line), of a student through the readout that it declares;
            `mean` over tokens (--pooled), or `class` token, for one vector per image.
        features: Which layer.
        srt: What SRT averages; by default the single pass.
        execution: How the model is run.
        short_side: Pixels that the shorter side is brought to, at most; sides become whole patches.
        tile: Side in pixels of the tiles that larger images are read in, for images too large for one pass; whole
            patches. None reads every image at once. The features are near those of one pass, not equal to them.
        overlap: Pixels that neighbouring tiles share, over which one fades into the other; by default a quarter tile.
        white: For a backbone that takes other than 3 channels, the value of image files that stands for 1.
        batch_size: Images of one size that go through the model together.
        num_workers: Processes that decode.
        half: Store 16-bit numbers.
        progress: Show a progress bar.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If options fit nothing, or parts of other settings lie beside the output.
    """
    backbone = BackboneOptions(backbone) if isinstance(backbone, str) else backbone
    output = Path(output)
    for name, value in (("short_side", short_side), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} {value} is not above 0; give 1 or more")
    require_writable(output.parent)
    model = load_model(backbone, features, execution)
    model = model if pooling == "dense" else replace(model, readout="none")  # a readout is of maps
    tiling = _tiling(tile, overlap, pooling, model)
    candidate = under_srt(backbone.name, model, srt)
    given = [str(word) for word in ([images] if isinstance(images, str | Path) else images)]
    source = recognise_images(given, model.info.num_channels, white).source
    known = {
        "backbone": backbone.name,
        "pooling": pooling,
        "short_side": short_side,
        "half": half,
        "images": given,
        "white": white,
        "tiling": None if tiling is None else [tiling.side, tiling.overlap],
        "normalization": [list(values) for values in astuple(candidate.normalization)],
    }
    parts = Parts(output, {**known, "features": dict(candidate.fingerprint)})
    num_parts = -(-len(source) // IMAGES_PER_PART)
    unreadable = 0
    with tqdm(total=len(source), unit="image", disable=None if progress else True) as bar:
        for number in range(num_parts):
            places = range(number * IMAGES_PER_PART, min(len(source), (number + 1) * IMAGES_PER_PART))
            if not parts.is_finished(number):
                found: dict[str, np.ndarray] = {}
                resized = ResizedImages(source, places, short_side, model.info)
                for batch in load_batches(resized, batch_size, num_workers):
                    if isinstance(batch, Batch):
                        rows = _read(candidate, model, batch.pixels, pooling, tiling)
                        rows = (rows.half() if half else rows).numpy()
                        found |= {source.name(i): row for i, row in zip(batch.numbers, rows, strict=True)}
                        bar.update(len(rows))
                    else:
                        warnings.warn(f"{batch[1]}; left out", stacklevel=2)
                        unreadable += 1
                parts.write(number, found)
            else:
                bar.update(len(places))
    return Embedded(output, parts.put_together(num_parts, dense=pooling == "dense"), unreadable)


def _tiling(tile: int | None, overlap: int | None, pooling: Pooling, model: Model) -> Tiling | None:
    """Make the tiling that is asked for, if one is.

    Raises:
        ValueError: If it does not go with the model or the pooling.
    """
    if tile is None:
        if overlap is not None:
            raise ValueError(f"overlap {overlap} is given, but no tile that it is of; give tile too")
        return None
    if pooling == "class":
        raise ValueError(
            "pooling class with a tile: the class token is of all that one pass sees; use mean, or no tile"
        )
    if model.info.fixed_size is not None:
        height, width = model.info.fixed_size
        raise ValueError(f"{model.info.name} takes images of {height}x{width} pixels only; leave tile {tile} out")
    return choose_tiling(tile, overlap, model.info.patch_size)


def _read(candidate: Candidate, model: Model, pixels: Tensor, pooling: Pooling, tiling: Tiling | None) -> Tensor:
    """Read maps (B, C, h, w) or vectors (B, C) of images of one size, on the CPU."""
    if tiling is not None:
        maps = read_in_tiles(lambda images: candidate.maps(images)[-1], model.module, pixels, tiling)
        return maps if pooling == "dense" else maps.mean((2, 3))
    return (
        candidate.maps(pixels)[-1].float().cpu() if pooling == "dense" else describe_images(candidate, pixels, pooling)
    )
