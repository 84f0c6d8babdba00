"""Segmentation by a linear head on frozen features.

Shape legend: B images, C channels, K classes, H W pixels, h w tokens.

Source: DINOv2's "linear" evaluation: the last block after the final norm, batch norm, a 1x1 convolution at token size,
bilinear to the labels, cross-entropy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.heads import HeadTraining, Sample, keep_features, train_head
from srt_distill.tasks.segmentation.base import SCORES, SegmentationTask
from srt_distill.tasks.segmentation.example import draw_discs, draw_rectangles
from srt_distill.tasks.segmentation.labels import VOID
from srt_distill.tasks.segmentation.layouts import Layout
from srt_distill.tasks.task import TaskInfo

SEGMENTATION_TRAINING = HeadTraining()


class LinearClassifier(nn.Module):
    """Batch norm and a 1x1 convolution.

    Args:
        channels: C.
        num_classes: K.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.logits.bias), 0)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        """Logits of the classes."""
        return self.logits(self.norm(features))


def segmentation_loss(logits: Float[Tensor, "B K H W"], labels: Int[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Take cross-entropy over labelled pixels, divided by all pixels, void ones too (as mmsegmentation 0.x does)."""
    return F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum") / labels.numel()


@dataclass(frozen=True)
class Segmentation(SegmentationTask):
    """Segmentation by a linear head trained on frozen features (paper, Table 7).

    ADE20K as DINOv2 judges it: short side 512, windows of 512, stride 341.

    Args:
        root: Folder with the data.
        layout: How they lie in it: lists (CamVid), folders, ade20k, or instances (nuclei).
        short_side: Pixels that an image's short side is brought to; none leaves images as they are.
        window: Side of the windows that an image is cut into, in pixels; none looks at whole images.
        stride: From window to window, in pixels.
        padding: What becomes of outputs where images were padded to whole patches.
        num_train: Training images, evenly spread over the split; none for all.
        training: Of the heads.
    """

    training: HeadTraining = SEGMENTATION_TRAINING

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name=f"segmentation-{self.root.name.lower()}",
            version="1",
            title=f"Segmentation by a linear head, {self.root.name}",
            item="image",
            scores=SCORES,
            source="DINOv2's linear segmentation (Oquab et al., 2024); SRT, Table 7",
        )

    @property
    def num_seeds(self) -> int:
        """Heads that are trained."""
        return self.training.seeds

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Train a head per seed on the training split; features are extracted once."""
        patch, num_classes = self.patch(candidate), len(self.open().rule.classes)
        samples = [
            Sample(keep_features([features]), torch.from_numpy(labels), placement)
            for features, labels, placement in self.samples(candidate, patch)
        ]
        prepared = {"patch": torch.tensor(patch)}

        def make_head(channels: Sequence[int]) -> nn.Module:
            return LinearClassifier(channels[0], num_classes)

        def loss(logits: Tensor, labels: Tensor, step: int) -> Tensor:
            return segmentation_loss(logits, labels)

        for seed in range(self.num_seeds):
            state = train_head(make_head, samples, loss, self.training, seed, candidate.device)
            prepared.update({f"{seed}.{name}": value for name, value in state.items()})
        return prepared

    def classify(self, prepared: Mapping[str, Tensor], seed: int, features: Float[Tensor, "1 C h w"]) -> Tensor:
        """Give logits (1, K, h, w) of the head of a seed."""
        prefix = f"{seed}."
        state = {name.removeprefix(prefix): value for name, value in prepared.items() if name.startswith(prefix)}
        head = LinearClassifier(features.shape[1], len(state["logits.weight"]))
        head.load_state_dict(state)
        return head.to(features.device).eval()(features)

    @classmethod
    def example(cls, folder: Path) -> "Segmentation":
        """Six training and two test images of 64x64 with three colours, and a short training of two seeds."""
        draw_rectangles(folder)
        return cls(folder, training=HeadTraining(steps=40, learning_rate=0.01, seeds=2))


@dataclass(frozen=True)
class Nuclei(Segmentation):
    """Cells, or any numbered objects, against background by a linear head trained on frozen features.

    Args:
        root: Folder with the data.
        layout: How they lie in it; instances reads masks of numbered objects as one class.
        short_side: Pixels that an image's short side is brought to; none leaves images as they are.
        window: Side of the windows that an image is cut into, in pixels; none looks at whole images.
        stride: From window to window, in pixels.
        padding: What becomes of outputs where images were padded to whole patches.
        num_train: Training images, evenly spread over the split; none for all.
        training: Of the heads.
    """

    layout: Layout = "instances"

    @classmethod
    def example(cls, folder: Path) -> "Nuclei":
        """Six training and two test images of 64x64 with two bright discs, masks numbered."""
        draw_discs(folder)
        return cls(folder, training=HeadTraining(steps=40, learning_rate=0.01, seeds=2))
