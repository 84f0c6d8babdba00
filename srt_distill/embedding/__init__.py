"""Features of images, written to one file: dense maps or one vector per image, of any backbone."""

from srt_distill.embedding.extraction import Embedded, embed

__all__ = ["Embedded", "embed"]
