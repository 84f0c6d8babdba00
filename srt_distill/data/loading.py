"""From crops to batches: which images an epoch visits in which order, and where a resumed epoch goes on.

Shape legend: B images, K channels (3 colours), H W pixels of the window.

Nothing here has state to save. The order is a function of (seed, epoch); which epoch it is and how far it has come is
asked of the trainer when the first batch is wanted. Leaving that to Lightning fails in three ways. It restores a
loader's state, but silently not where `trainer.estimated_stepping_batches` was read before (its issue 20550). It
creates a loader's iterator before it calls `set_epoch`, so that the loader processes of a resumed run begin with the
wrong epoch. And in a run limited by `max_steps` and resumed at the end of an epoch, it calls `set_epoch` with one epoch
too many.
"""

import signal
from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from srt_distill.data.crops import Crop, Draw


class CropBatch(NamedTuple):
    """Windows stacked, and the images that could not be read on the way to them."""

    pixels: Real[Tensor, "B K H W"]
    unreadable: dict[str, str]


def collate_crops(crops: list[Crop]) -> CropBatch:
    """Stack windows of one size; what could not be read travels along, as it may have been met in another process."""
    unreadable: dict[str, str] = {}
    for crop in crops:
        unreadable.update(crop.unreadable)
    return CropBatch(torch.stack([crop.pixels for crop in crops]), unreadable)


class EpochSampler(DistributedSampler[Draw]):
    """A new order of all training images in every epoch, dealt out evenly over processes.

    An epoch is filled up to whole batches in all processes with the images it began with (other crops of them), so that
    no image is left out, every batch has the same shape and processes stay in step.

    A `DistributedSampler`, so that Lightning leaves it in place.

    Args:
        dataset: the training part; only its length is used.
        batch_size: images a batch and process.
        seed: of the order.
        num_processes: how many processes share an epoch.
        process: which of them this is.
        progress: asked when the first batch of an epoch is wanted: which epoch it is, and how many of its batches this
            process has trained on before. Without it: the epoch given to `set_epoch`, from its beginning.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        seed: int,
        num_processes: int,
        process: int,
        progress: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas=num_processes, rank=process, seed=seed)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.progress = progress
        self.num_images = len(dataset)
        batches = -(-self.num_images // (batch_size * num_processes))
        self.num_samples = batches * batch_size
        self.total_size = self.num_samples * num_processes

    def __iter__(self) -> Iterator[Draw]:
        epoch, batches_done = self.progress() if self.progress else (self.epoch, 0)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
        first = batches_done * self.batch_size * self.num_replicas + self.rank
        for place in range(first, self.total_size, self.num_replicas):
            yield Draw(epoch, int(order[place % self.num_images]), place // self.num_images)


def ignore_signals(worker: int) -> None:
    """Have a loader process pass over Ctrl-C and TERM, which terminals and schedulers send to all processes of a run.

    The one that trains finishes its step, saves, and ends the others; one that went before it would end the run.

    Args:
        worker: its number.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class CropLoader(DataLoader[Crop]):
    """Batches of windows (B, K, H, W): uint8, or float32 of bands that are not bytes.

    Args:
        dataset: of crops.
        report_unreadable: told the name of every image that could not be read, and why; always in this process.
        **options: of `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Dataset[Crop], report_unreadable: Callable[[str, str], None], **options: Any) -> None:
        super().__init__(dataset, collate_fn=collate_crops, worker_init_fn=ignore_signals, **options)
        self.report_unreadable = report_unreadable

    def __iter__(self) -> Iterator[Real[Tensor, "B K H W"]]:  # type: ignore[override]
        """Being a generator, it starts nothing until the first batch is asked for: by then the epoch is known."""
        for batch in super().__iter__():
            for name, reason in batch.unreadable.items():
                self.report_unreadable(name, reason)
            yield batch.pixels

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see the module's docstring. Its presence tells Lightning that an epoch can be resumed half-way."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take up."""
