"""Images of several sources as one: a new domain with some of the old, so that the old is not forgotten.

Shape legend: none, images are only chosen here.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from srt_distill.data.bands import Bands
from srt_distill.data.source import ImageSource


class Mixture(ImageSource):
    """Several sources, one after the other; of each all images, or a number of them spread evenly over it.

    The held-out part is spread over all sources too, so that what is measured is measured on the mixture.

    Args:
        sources: where the images come from.
        num_images: how many of each source, null for all of it; null altogether for all of every source.

    Raises:
        ValueError: If there is no source, the numbers do not go with the sources, or these differ in their channels.
    """

    def __init__(self, sources: list[ImageSource], num_images: list[int | None] | None = None) -> None:
        if not sources:
            raise ValueError("a mixture of no sources has no images; give at least one source")
        wanted: Sequence[int | None] = num_images or [None] * len(sources)
        if len(wanted) != len(sources):
            raise ValueError(f"{len(wanted)} num_images for {len(sources)} sources; give one per source, or null")
        for source, number in zip(sources, wanted, strict=True):
            if number is not None and not 1 <= number <= len(source):
                raise ValueError(
                    f"{number} images cannot be taken from a source of {len(source)}; use 1 to {len(source)}, or null "
                    "for all of it"
                )
        channels = [source.num_channels for source in sources]
        if len(set(channels)) > 1:
            raise ValueError(f"sources of {channels} channels do not go into one batch; give sources of one number")
        self._sources = list(sources)
        counts = [len(source) if number is None else number for source, number in zip(sources, wanted, strict=True)]
        self._counts = np.array(counts, dtype=np.int64)
        self._ends = np.cumsum(self._counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def num_channels(self) -> int:
        """Channels of every image of every source."""
        return self._sources[0].num_channels

    def load(self, index: int) -> Image.Image | Bands:
        """Decode the image as its source does."""
        source, within = self._find(index)
        return self._sources[source].load(within)

    def name(self, index: int) -> str:
        """Return the number of the source, and the image's name in it."""
        source, within = self._find(index)
        return f"{source}:{self._sources[source].name(within)}"

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        source = int(np.searchsorted(self._ends, index, side="right"))
        count = int(self._counts[source])
        place = index - int(self._ends[source]) + count
        return source, place * len(self._sources[source]) // count
