"""How far a run is: one bar for the whole of it on a terminal, a line now and then elsewhere.

Shape legend: none.
"""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from srt_distill.runs import headline

NUM_LINES = 10
"""Lines of a run that is not watched on a terminal."""


class RunProgress(ProgressBar):
    """Steps, time left, loss and gap of a run as a whole, not epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._total: int | None = None
        self._begun_at, self._since = 0, 0.0
        self._shown = True

    def disable(self) -> None:
        """Show nothing, as on all processes but the first."""
        self._shown = False

    def enable(self) -> None:
        """Show again."""
        self._shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, where a resumed run goes on."""
        steps = float(trainer.estimated_stepping_batches)
        self._total = None if steps == float("inf") else int(steps)
        self._begun_at, self._since = trainer.global_step, time.monotonic()
        if self._shown and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, initial=trainer.global_step, unit="step", desc="distilling")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on by a step."""
        if self._bar is not None:
            self._bar.set_postfix(self._numbers(trainer), refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)
        elif self._shown and trainer.global_step % max(1, (self._total or 1000) // NUM_LINES) == 0:
            said = ", ".join(f"{name} {value}" for name, value in self._numbers(trainer).items())
            of = f" of {self._total}" if self._total else ""
            print(f"step {trainer.global_step}{of}: {said}{self._time_left(trainer.global_step)}", flush=True)

    def _numbers(self, trainer: pl.Trainer) -> dict[str, str]:
        score = headline(trainer.callback_metrics)
        wanted = {"loss": "train/loss", score.removeprefix("val/").replace("_", " "): score}
        known = {short: trainer.callback_metrics.get(name) for short, name in wanted.items()}
        return {short: f"{value.item():.3g}" for short, value in known.items() if value is not None}

    def _time_left(self, step: int) -> str:
        done = step - self._begun_at
        if not self._total or done < 1:
            return ""
        seconds = (time.monotonic() - self._since) / done * (self._total - step)
        return f", {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Nothing besides what is shown already."""
        return {}
