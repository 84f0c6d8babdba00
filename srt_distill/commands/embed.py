"""`srt-distill embed`: features of any backbone, written to a file.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import SINGLE_PASS
from srt_distill.embedding import Embedded
from srt_distill.embedding import embed as embed_images
from srt_distill.embedding.extraction import Pooling
from srt_distill.ensemble.options import SRTOptions

SHORTHANDS = {"--dense": ["--pooling", "dense"], "--pooled": ["--pooling", "mean"]}


def embed(
    backbone: BackboneOptions,
    images: list[str],
    output: Path,
    pooling: Pooling = "mean",
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SINGLE_PASS,
    execution: ExecutionOptions = ExecutionOptions(),
    short_side: int = 480,
    white: float | None = None,
    batch_size: int = 8,
    num_workers: int = 1,
    half: bool = False,
    progress: bool = True,
) -> Embedded:
    """Write the features of images to one file, with their names: for FAISS, notebooks, heads of your own.

    Any backbone, stock or adapted, without a training run; maps with --dense, one vector per image with --pooled.
    Killed, the same command goes on.

    Args:
        backbone: A timm model, an export, a run.
        images: A folder of images, videos or shards; a text file with a path per line; a data set; or several of these.
        output: File that ends in .safetensors or .parquet; an older one is replaced.
        pooling: `dense` (--dense) for maps; `mean` (--pooled) over tokens, or `class` token, for one vector per image.
        features: Which layer.
        srt: What SRT averages; by default the single pass.
        execution: How the model is run.
        short_side: Pixels that the shorter side is brought to, at most; sides become whole patches.
        white: For a backbone that takes other than 3 channels, the value of image files that stands for 1.
        batch_size: Images of one size that go through the model together.
        num_workers: Processes that decode.
        half: Store 16-bit numbers.
        progress: Show a progress bar.
    """
    done = embed_images(
        backbone,
        images,
        output,
        pooling=pooling,
        features=features,
        srt=srt,
        execution=execution,
        short_side=short_side,
        white=white,
        batch_size=batch_size,
        num_workers=num_workers,
        half=half,
        progress=progress,
    )
    left_out = f", {done.num_unreadable} could not be read" if done.num_unreadable else ""
    print(f"features of {done.num_images:,} images in {done.output}{left_out}")
    return done


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and embed."""
    words = [word for given in arguments for word in SHORTHANDS.get(given, [given])]
    embed(**CommandParser("embed", embed).read(words))
