"""What a run shows beyond its loss curves: pictures of features, speed, and J&F on named videos.

Shape legend: B images, C channels, h w tokens.
"""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from srt_distill.backbone import FeatureExtractor
from srt_distill.backbone.layers import parse_layer
from srt_distill.tasks.davis.result_files import DavisResult
from srt_distill.tasks.davis.video_propagation import evaluate_video
from srt_distill.tasks.davis.videos import open_videos
from srt_distill.training.distillation import SRTDistillation
from srt_distill.visualization import pca_rgb

PANEL_HEIGHT = 160
"""Height of a picture in a panel, in pixels."""

PANEL_NAME = "held-out image | teacher | SRT | student"


class FeaturePanels(pl.Callback):
    """PCA pictures of teacher, SRT and student on fixed held-out images, one shared projection an image.

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
        layers = pl_module.hparams["layers"]
        num_batches = int(trainer.num_val_batches[0])
        shown = {round(i * (num_batches - 1) / max(self.num_images - 1, 1)) for i in range(self.num_images)}
        if trainer.is_global_zero and not trainer.sanity_checking and batch_idx in shown:
            self._rows.extend(draw_panel(batch, outputs, 0, layer) for layer in last_dense(layers))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand the pictures to TensorBoard."""
        rows, self._rows = self._rows, []
        for logger in trainer.loggers:
            if rows and isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(PANEL_NAME, torch.cat(rows, 1), trainer.global_step)


def last_dense(layers: Sequence[int | str]) -> list[int]:
    """Which of the chosen layers is looked at: the last with a map of the image, not one of class tokens; or none."""
    return [index for index, spec in enumerate(layers) if parse_layer(spec).facet != "prefix"][-1:]


def draw_panel(batch: Tensor, maps: dict[str, tuple[Tensor, ...]], index: int, layer: int) -> Tensor:
    """One row of pictures: the image, then teacher, SRT and student under one projection.

    Args:
        batch: (B, 3, H, W) uint8 images.
        maps: What `SRTDistillation.validation_step` returned.
        index: Which image of the batch.
        layer: Which of the maps.

    Returns:
        (3, h, w) in 0…1, h being `PANEL_HEIGHT`.
    """
    features = pca_rgb([maps[role][layer][index].float().cpu() for role in ("teacher", "srt", "student")])
    pictures = [batch[index].float().cpu() / 255, *features]
    size = PANEL_HEIGHT, round(PANEL_HEIGHT * batch.shape[-1] / batch.shape[-2])
    return torch.cat([F.interpolate(picture[None], size, mode="nearest")[0] for picture in pictures], 2)


class Throughput(pl.Callback):
    """Images a second that training gets through, all processes together: `train/images_per_second`.

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


class DavisScores(pl.Callback):
    """J&F of the student's single pass on named DAVIS videos, every n validations: `davis/J&F-Mean` and its kin.

    Their masks are labels, so these scores are for looking at, not for training on.

    Args:
        root: The DAVIS folder.
        sequences: Names of videos.
        every: Validations between two evaluations.
        scale: Factor on the short side of 480 pixels.
        size_multiple: What the long side is cut down to a multiple of.
    """

    def __init__(
        self, root: str, sequences: Sequence[str], every: int = 1, scale: float = 0.5, size_multiple: int = 32
    ) -> None:
        self.videos = open_videos(Path(root), list(sequences))
        self.every, self.scale, self.size_multiple = every, scale, size_multiple
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate and log, on the first process."""
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, SRTDistillation):
            return
        self._validations += 1
        if self._validations % self.every:
            return
        layers = list(pl_module.hparams["layers"])
        seen = [layers[index] for index in last_dense(layers)] or [-1]
        extract = FeatureExtractor(pl_module.student, seen, norm=pl_module.hparams["norm"])
        mean, std = (tuple(float(v) for v in t.flatten()) for t in (pl_module.mean, pl_module.std))
        results = [
            evaluate_video(
                extract,
                video,
                mean=(mean[0], mean[1], mean[2]),
                std=(std[0], std[1], std[2]),
                scale=self.scale,
                size_multiple=self.size_multiple,
                device=pl_module.device,
            )
            for video in self.videos
        ]
        scores = {f"davis/{name}": value for name, value in DavisResult({}, tuple(results)).scores.items()}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scores.items()})
        for logger in trainer.loggers:
            logger.log_metrics(scores, trainer.global_step)
