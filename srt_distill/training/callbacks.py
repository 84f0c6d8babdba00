"""What a run shows beyond its loss curves: pictures of features, speed, and scores on tasks.

Shape legend: B images, C channels, h w tokens.
"""

import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from srt_distill.backbone import describe_backbone, hash_weights
from srt_distill.data.bands import as_colours
from srt_distill.extractor import Extractor
from srt_distill.loggers import log_picture
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.task import Task
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.held_out_scores import dense_layers
from srt_distill.visualization import pca_rgb

PANEL_HEIGHT = 160
"""Height of a picture in a panel, in pixels."""

PANEL_NAME = "held-out image | teacher | SRT | student"


class FeaturePanels(pl.Callback):
    """Draw PCA pictures of teacher, SRT and student on fixed held-out images, one shared projection per image.

    Neighbouring held-out images may be frames of one scene, so the pictures are spread over the batches.

    Args:
        num_images: How many held-out images are shown, as far as there are batches.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self._rows: list[Tensor] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first image of a batch, if it is one of those that are shown."""
        num_batches = int(trainer.num_val_batches[0])
        shown = {round(i * (num_batches - 1) / max(self.num_images - 1, 1)) for i in range(self.num_images)}
        if not trainer.is_global_zero or trainer.sanity_checking or batch_idx not in shown:
            return
        if isinstance(pl_module, SRTDistillation) and outputs is not None:
            last = dense_layers(pl_module.reading.layers)[-1:]
            self._rows.extend(draw_panel(batch, outputs, 0, layer) for layer in last)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand the pictures to the loggers."""
        rows, self._rows = self._rows, []
        for logger in trainer.loggers if rows else []:
            picture = (torch.cat(rows, 1) * 255).round().clamp(0, 255).byte()
            log_picture(logger, PANEL_NAME, picture, trainer.global_step)


def draw_panel(batch: Tensor, maps: dict[str, tuple[Tensor, ...]], index: int, layer: int) -> Tensor:
    """One row of pictures: the image, then teacher, SRT and student under one projection.

    Args:
        batch: (B, K, H, W) images of 0 to 255; of many bands the first three are shown.
        maps: What `SRTDistillation.validation_step` returned.
        index: Which image of the batch.
        layer: Which of the maps.

    Returns:
        (3, h, w) in 0…1, h being `PANEL_HEIGHT`.
    """
    features = pca_rgb([maps[role][layer][index].float().cpu() for role in ("teacher", "srt", "student")])
    pictures = [as_colours(batch[index]).float().cpu() / 255, *features]
    size = PANEL_HEIGHT, round(PANEL_HEIGHT * batch.shape[-1] / batch.shape[-2])
    return torch.cat([F.interpolate(picture[None], size, mode="nearest")[0] for picture in pictures], 2)


class Throughput(pl.Callback):
    """Measure images per second that training gets through, all processes together: `train/images_per_second`.

    Loading counts, validation does not.

    Args:
        num_batches: How many of the last batches it is the mean of.
    """

    def __init__(self, num_batches: int = 20) -> None:
        self._durations: deque[tuple[int, float]] = deque(maxlen=num_batches)
        self._since = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._since = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on counting after a pause."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Log the mean of the last batches."""
        now = time.perf_counter()
        self._durations.append((len(batch) * trainer.world_size, now - self._since))
        self._since = now
        images, seconds = (sum(values) for values in zip(*self._durations, strict=True))
        pl_module.log("train/images_per_second", images / seconds)


class TaskScores(pl.Callback):
    """Judge the student on a task every n validations and at the end, logged as `<task>/<score>`.

    They equal those of `srt-distill evaluate` under the same settings. A task's labels are for looking at, not for
    training on.

    Args:
        task: Such as `Davis`, with its options.
        every: Validations between two evaluations.
    """

    def __init__(self, task: Task, every: int = 1) -> None:
        self.task, self.every = task, every
        self.items = task.items()
        self._validations = 0

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Judge, on the first process; here, where averaged weights, if any, are in place."""
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(pl_module, SRTDistillation):
            return
        self._validations += 1
        if self._validations % self.every and trainer.state.fn == "fit":
            return
        candidate = open_student(pl_module)
        prepared = self.task.prepare(candidate)
        with tempfile.TemporaryDirectory() as folder:
            judged = [self.task.judge(candidate, prepared, item, Path(folder) / item.name) for item in self.items]
        scores = {f"{self.task.info.name}/{name}": value for name, value in self.task.pool(judged).items()}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scores.items()})
        for logger in trainer.loggers:
            logger.log_metrics(scores, trainer.global_step)


def open_student(module: SRTDistillation) -> Candidate:
    """Make a candidate of a student in training: a single pass of its last dense layer, through its readout."""
    layers, reading = module.reading.layers, module.reading
    dense = dense_layers(layers)
    judged = replace(reading, layers=(layers[dense[-1]] if dense else -1,), unit_tokens=False)

    def read(layers: Sequence[int | str], norm: bool) -> Extractor:
        return replace(judged, layers=tuple(layers), norm=norm).student(module.student)

    return Candidate(
        "student",
        judged.student(module.student),
        module.normalization,
        num_parameters=describe_backbone(module.student).num_parameters,
        fingerprint={"student": hash_weights(module.student)},
        device=module.device,
        read=read,
    )
