"""What is asked of a trainer: the number of a batch, which held-out images are repeats, how much time has passed.

Shape legend: B images, K bands, H W pixels.
"""

from collections.abc import Callable

import pytorch_lightning as pl
from jaxtyping import Real
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def draw_number(trainer: pl.Trainer, batch_idx: int) -> int:
    """Return a number that no other batch of this run has, the same again when the run is resumed."""
    batches = trainer.num_training_batches
    per_epoch = int(batches) if batches != float("inf") else 2**20
    return (trainer.current_epoch * per_epoch + batch_idx) * trainer.world_size + trainer.global_rank


def drop_repeats(batch: Real[Tensor, "B K H W"], batch_idx: int, trainer: pl.Trainer) -> Real[Tensor, "_B K H W"]:
    """Leave out of a held-out batch the images that only fill it up, so that all processes have as many.

    Args:
        batch: Of this process.
        batch_idx: Its number.
        trainer: Whose held-out images they are.
    """
    loader = trainer.val_dataloaders
    loader = loader[0] if isinstance(loader, list) and loader else loader
    if trainer.world_size == 1 or not isinstance(loader, DataLoader):
        return batch
    sampler = loader.sampler
    if not isinstance(sampler, DistributedSampler) or loader.batch_size is None:
        return batch
    first = batch_idx * loader.batch_size
    left = len(sampler.dataset) - sampler.rank - first * sampler.num_replicas  # type: ignore[arg-type]
    return batch[: max(0, -(-left // sampler.num_replicas))]


def share_of_time(trainer: pl.Trainer) -> Callable[[], float] | None:
    """Make what tells which share of `trainer.max_time` has passed, over all resumes; or None."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    if not timers or timers[0].time_remaining(RunningStage.TRAINING) is None:
        return None
    timer = timers[0]

    def share() -> float:
        passed, left = timer.time_elapsed(RunningStage.TRAINING), timer.time_remaining(RunningStage.TRAINING) or 0.0
        return passed / max(passed + left, 1e-9)

    return share
