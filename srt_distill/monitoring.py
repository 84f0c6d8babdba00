"""What TensorBoard shows of a run beyond its curves.

Shape legend: B images, C channels, h w tokens.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from srt_distill.visualization import pca_rgb

PANEL_HEIGHT = 160
"""Height of a picture in a panel, in pixels."""


class FeaturePanels(pl.Callback):
    """PCA pictures of teacher, SRT and student on fixed held-out images, one shared projection a panel.

    Args:
        num_images: How many of the first held-out images are shown.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch's maps of the last chosen layer."""
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                panels = [self._panel(batch, outputs, i) for i in range(min(self.num_images, len(batch)))]
                logger.experiment.add_image(
                    "held-out image | teacher | SRT | student", torch.cat(panels, 1), trainer.global_step
                )

    def _panel(self, batch: Tensor, outputs: dict[str, tuple[Tensor, ...]], index: int) -> Tensor:
        maps = [outputs[role][-1][index] for role in ("teacher", "srt", "student")]
        margin_height = batch.shape[-2]
        pictures = [batch[index].cpu().float() / 255, *(torch.as_tensor(p) for p in pca_rgb(maps))]
        width = round(PANEL_HEIGHT * batch.shape[-1] / margin_height)
        resized = [
            torch.nn.functional.interpolate(p[None].float(), (PANEL_HEIGHT, width), mode="nearest")[0] for p in pictures
        ]
        return torch.cat(resized, 2).clamp(0, 1)
