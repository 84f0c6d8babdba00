"""How a training ends before its end: by Ctrl-C or a scheduler's TERM, or because it diverged.

Shape legend: none.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from srt_distill.backbone import require_finite
from srt_distill.runs import CHECKPOINT_FOLDER, headline
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.run_folder import BEST_CHECKPOINT, last_checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A training was told to stop, and has saved where it was.

    Not an `Exception`, so that nothing on the way takes it for a failure.
    """

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


class StopRequests:
    """Whether the process was told to stop. The first signal asks, the second is obeyed at once.

    Attributes:
        signal: What was received, if anything.
        in_step: Whether a step is under way, after which there is something to save; else the first is obeyed at once.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.in_step = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive signals while the block runs; in the main thread, which alone can."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            self.take_over()
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def take_over(self) -> None:
        """Be the one who receives: Lightning's own handler, set meanwhile, ends a run of TERM without a checkpoint."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again or not self.in_step:
            raise Stopped(self.signal)
        print(f"\n{self.signal.name}: finishing this step, then saving (once more stops at once)", flush=True)


def is_last_step(trainer: pl.Trainer) -> bool:
    """Tell whether a run ends with the step that was just taken, as far as steps, epochs and time decide."""
    last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    return trainer.global_step == trainer.max_steps or last_epoch or trainer.should_stop


class RunCheckpoints(Checkpoint):
    """Saves the last checkpoint every so often and when told to stop, and the best by the label-free score.

    Nothing that is not finite is saved.

    Args:
        folder: Of the run.
        every: Steps between two; 0 saves at the end only.
        requests: Whether the process was told to stop.
    """

    def __init__(self, folder: Path, every: int, requests: StopRequests) -> None:
        self.folder, self.every, self.requests = folder, every, requests
        self.saved_at: int | None = None
        self.validated_at: int | None = None
        self.best: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen from here on."""
        self.requests.take_over()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note that a step is under way."""
        self.requests.in_step = True

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Stop at the first loss that is no number, before it reaches the weights.

        Raises:
            RuntimeError: If it is none.
        """
        if not torch.isfinite(loss):
            raise RuntimeError(self.explain_divergence(trainer, f"the loss is {loss.item()}"))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to, or if this was the last step: when training ends, averages replace the weights."""
        stop = trainer.strategy.reduce_boolean_decision(self.requests.signal is not None, all=False)
        due = trainer.global_step % self.every == 0 if self.every else False
        if stop or ((due or is_last_step(trainer)) and trainer.global_step != self.saved_at):
            self.save(trainer)
        if stop:
            raise Stopped(self.requests.signal or signal.SIGTERM)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best, if this is it."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or getattr(trainer, "fast_dev_run", False):
            return
        self.validated_at = trainer.global_step
        score = trainer.callback_metrics.get(headline(trainer.callback_metrics))
        if score is not None and self.is_best(score.item()):
            trainer.save_checkpoint(self.folder / CHECKPOINT_FOLDER / BEST_CHECKPOINT, weights_only=False)

    def is_best(self, score: float) -> bool:
        """Take note of a score, and tell whether it is the highest so far."""
        if self.best is not None and not score > self.best:
            return False
        self.best = score
        return True

    def save(self, trainer: pl.Trainer) -> None:
        """Save the last checkpoint.

        Raises:
            RuntimeError: If the weights are no longer finite; the checkpoint before stays.
        """
        module = trainer.lightning_module
        if isinstance(module, SRTDistillation):
            try:
                require_finite(module.student.state_dict(), "the student")
            except ValueError as error:
                raise RuntimeError(self.explain_divergence(trainer, str(error))) from error
        trainer.save_checkpoint(last_checkpoint(self.folder), weights_only=False)
        self.saved_at = trainer.global_step

    def explain_divergence(self, trainer: pl.Trainer, seen: str) -> str:
        """Say in words where a training diverged and what is left of it."""
        rate = max((group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups), default=0.0)
        kind = type(trainer.optimizers[0]).__name__ if trainer.optimizers else "AdamW"
        last = last_checkpoint(self.folder)
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved"
        kept += f", step {self.saved_at}" if self.saved_at else ""
        return (
            f"training diverged at step {trainer.global_step}, learning rate {rate:g}: {seen}; {kept}. Train again at "
            f"a lower rate (--model.optimizer {kind} --model.optimizer.lr {rate / 10:.1g}), or with "
            "--trainer.gradient_clip_val 1"
        )

    def state_dict(self) -> dict[str, Any]:
        """Keep the best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best score so far."""
        self.best = state_dict["best"]
