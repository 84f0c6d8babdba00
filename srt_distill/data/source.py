"""What an image source is: a length, an image at an index, a name at an index.

Sources are picked in YAML by class path, so each has a plain signature; everything after the pixels (crops, batches,
the held-out part) lives elsewhere and knows nothing of where they came from.
"""

from abc import ABC, abstractmethod

from PIL import Image

from srt_distill.data.bands import Bands


class ImageSource(ABC):
    """Unlabeled images behind an index, in a fixed order in which neighbours are alike (names sorted, frames in time).

    A source indexes cheaply when it is built and decodes only in `load`. It is copied into loader processes, so it must
    pickle.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Count the images, readable or not."""

    @property
    def num_channels(self) -> int:
        """Channels of every image: those of colour, unless a source says otherwise."""
        return 3

    @abstractmethod
    def load(self, index: int) -> Image.Image | Bands:
        """Decode one image, upright: in mode RGB, or all bands of a source that says how many channels it has.

        Raises:
            OSError: If this image cannot be read; the message names it. The caller may go on with another one.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Say what a message calls this image: unique within the source, and enough for a person to find it."""
