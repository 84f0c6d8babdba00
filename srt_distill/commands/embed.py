"""`srt-distill embed`: features of any backbone, written to a file.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.parsing import CommandParser, as_command
from srt_distill.embedding import embed as embed_images

SHORTHANDS = {"--dense": ["--pooling", "dense"], "--pooled": ["--pooling", "mean"]}

embed = as_command(embed_images, backbone=BackboneOptions, images=list[str], output=Path)


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, embed, and say what was written."""
    words = [word for given in arguments for word in SHORTHANDS.get(given, [given])]
    done = embed(**CommandParser("embed", embed).read(words))
    left_out = f", {done.num_unreadable} could not be read" if done.num_unreadable else ""
    print(f"features of {done.num_images:,} images in {done.output}{left_out}")
