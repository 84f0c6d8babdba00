"""Images that are read forward, shard by shard, and the order of an epoch that reads them so.

    ImageStream     an image source whose images lie in shards, cheap only if asked for nearly in order
    StreamSampler   an epoch over it: shards in a new order, images shuffled in a buffer, dealt out over processes
    split_off_first what of it is held out

A stream knows how many images each shard holds. So an epoch is a function of (seed, epoch) as it is for other sources:
every process finds its own part of it without asking the others, none is visited twice and none left out, and a resumed
run goes on from the number of batches done. Nothing has to be stored, and nothing stored can be lost. Neither the order
nor the crops depend on the number of loader processes.
"""

import io
import os
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from PIL import Image

from srt_distill.data.crops import Draw
from srt_distill.data.loading import EpochSampler
from srt_distill.data.source import ImageSource
from srt_distill.images import to_rgb, unreadable_as_os_error

MAX_LANES = 8
"""Places of the epoch that one process reads from in turn. A power of two: so that each loader process keeps to its own
as long as their number is one, too."""

MAX_READERS = 2 * MAX_LANES
"""Shards that one process keeps open; twice the lanes, as a lane's buffer may reach into the next shard."""


class Sample(NamedTuple):
    """One image of a shard, not yet decoded."""

    name: str
    """Within the shard."""
    encoded: bytes


class ImageStream(ImageSource):
    """Images in shards. Any can be asked for, but only neighbours are near: what lies between is read and kept.

    Encoded images that were read on the way to another are kept in memory, `buffer` for each of the places that an
    epoch reads from in turn (8), in each loader process. A shard that cannot be read ends the run, which can be
    resumed: a lost connection says nothing of the images.

    Args:
        shards: what messages call them.
        sizes: how many images each holds.
        buffer: images among which the order is shuffled, and that are read ahead for it.

    Raises:
        ValueError: If there is no image, or the buffer is below 1.
    """

    def __init__(self, shards: Sequence[str], sizes: Sequence[int], buffer: int) -> None:
        if buffer < 1:
            raise ValueError(f"buffer={buffer} must be at least 1; 1 keeps the order within a shard")
        if not sum(sizes):
            raise ValueError(f"no image in {len(shards)} shards ({', '.join(shards[:3])}, …); choose others")
        self.buffer = buffer
        self._shards = list(shards)
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._forget()

    @abstractmethod
    def read_shard(self, shard: int, start: int) -> Iterator[Sample]:
        """Read a shard from its image number `start` on; always the same images in the same order.

        Raises:
            OSError: If it cannot be read.
        """

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each shard holds."""
        sizes = np.diff(self._ends, prepend=0)
        return {name: int(size) for name, size in zip(self._shards, sizes, strict=True)}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def load(self, index: int) -> Image.Image:
        """Decode one image, upright and in RGB.

        Raises:
            OSError: If this image cannot be decoded.
            RuntimeError: If its shard cannot be read, or holds fewer images than it did.
        """
        shard, place = self._locate(index)
        sample = self._fetch(index, shard, place)
        name = f"{self.name(index)} ({sample.name})"
        with unreadable_as_os_error(name), Image.open(io.BytesIO(sample.encoded)) as image:
            return to_rgb(image, name)

    def name(self, index: int) -> str:
        """Name the shard, and the number of the image in it."""
        shard, place = self._locate(index)
        return f"{self._shards[shard]}#{place}"

    def count_in_shards(self, indices: Int64[np.ndarray, " images"]) -> Int64[np.ndarray, " shards"]:
        """Count how many of some images, in ascending order, each shard holds."""
        return np.diff(np.searchsorted(indices, self._ends), prepend=0)

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} is out of range: the stream has {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, index - (int(self._ends[shard - 1]) if shard else 0)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self._readers: OrderedDict[tuple[int, int], Iterator[Sample]] = OrderedDict()  # by shard and next place

    def _fetch(self, index: int, shard: int, place: int) -> Sample:
        """Take an image from what is kept, or read on to it."""
        if self._process != os.getpid():
            self._forget()  # a forked process must open its own: they would share one file position
        if index in self._kept:
            return self._kept.pop(index)
        behind = [at for at in self._readers if at[0] == shard and place - 2 * self.buffer <= at[1] <= place]
        at = max(behind, default=(shard, max(0, place - self.buffer)))
        try:
            reader = self._readers.pop(at) if behind else self.read_shard(*at)
            for number in range(at[1], place + 1):
                sample = next(reader, None)
                if sample is None:
                    raise EOFError(f"it ends at image {number}")
                self._kept[index - place + number] = sample
        except (OSError, EOFError) as error:
            raise RuntimeError(
                f"shard {self._shards[shard]} cannot be read up to image {place}: {error}; see to it and resume"
            ) from error
        self._readers[shard, place + 1] = reader
        if len(self._readers) > MAX_READERS:
            self._readers.popitem(last=False)
        sample = self._kept.pop(index)
        while len(self._kept) > (MAX_LANES + 1) * self.buffer:
            self._kept.popitem(last=False)
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": -1, "_kept": OrderedDict(), "_readers": OrderedDict()}


def split_off_first(
    num_images: int, num_held_out: int
) -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
    """Hold out the first images of a stream: to measure on runs spread over it, all of it would be read each time.

    Args:
        num_images: images in all.
        num_held_out: how many are held out, fewer than `num_images`.

    Returns:
        Indices of the training part and of the held-out part.
    """
    return np.arange(num_held_out, num_images), np.arange(num_held_out)


class StreamSampler(EpochSampler):
    """An epoch over a stream: all training images once, in an order that reads its shards forward.

    Shards come in a new order, end to end in a circle that begins at a new place. Each process has an equal arc of it,
    and reads that in up to 8 places in turn, a batch from each; within each, images are shuffled in stretches of the
    buffer. As in any epoch, the last batches are filled up with the images it began with (other crops of them).

    Args:
        sizes: training images in each shard.
        buffer: of the stream.
        batch_size: images per batch and process.
        seed: of the order.
        num_processes: how many processes share an epoch.
        process: which of them this is.
        progress: see `EpochSampler`.
    """

    def __init__(
        self,
        sizes: Int64[np.ndarray, " shards"],
        buffer: int,
        batch_size: int,
        seed: int,
        num_processes: int,
        process: int,
        progress: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(range(int(sizes.sum())), batch_size, seed, num_processes, process, progress)
        self.sizes = sizes
        self.buffer = buffer

    def __iter__(self) -> Iterator[Draw]:
        epoch, batches_done = self.progress() if self.progress else (self.epoch, 0)
        circle = self._circle(epoch)
        for place in self._order(epoch)[batches_done * self.batch_size :]:
            yield Draw(epoch, int(circle[place % self.num_images]), int(place) // self.num_images)

    def _circle(self, epoch: int) -> Int64[np.ndarray, " images"]:
        """Lay all training images end to end, as far as all processes agree on it."""
        random = np.random.default_rng((self.seed, epoch))
        in_shards = np.split(np.arange(self.num_images), np.cumsum(self.sizes)[:-1])
        shards = [in_shards[number] for number in random.permutation(len(self.sizes))]
        return np.roll(np.concatenate(shards), int(random.integers(self.num_images)))

    def _order(self, epoch: int) -> Int64[np.ndarray, " samples"]:
        """Places of the circle in the order in which this process visits them."""
        random = np.random.default_rng((self.seed, epoch, self.rank))
        arc = np.arange(self.rank * self.num_samples, (self.rank + 1) * self.num_samples)
        num_batches = self.num_samples // self.batch_size
        num_lanes = 1
        while num_lanes < MAX_LANES and 2 * num_lanes * self.buffer <= self.num_samples:
            num_lanes *= 2
        batches = np.zeros((num_batches, self.batch_size), np.int64)
        begun = 0
        for lane in range(num_lanes):
            length = len(batches[lane::num_lanes]) * self.batch_size
            stretch = arc[begun : begun + length]
            shuffled = [random.permutation(stretch[at : at + self.buffer]) for at in range(0, length, self.buffer)]
            if shuffled:
                batches[lane::num_lanes] = np.concatenate(shuffled).reshape(-1, self.batch_size)
            begun += length
        return batches.ravel()
