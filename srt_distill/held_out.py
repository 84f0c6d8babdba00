"""How a student does on held-out, unlabeled images, beside the teacher it learns from.

Shape legend: B images, C channels, H W pixels, h w tokens, m margin and d shift radius in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from srt_distill.ensemble import StochasticResonance, aligned_maps
from srt_distill.extractor import Extractor
from srt_distill.metrics import EquivarianceError, GapClosed

M = TypeVar("M", bound=Metric)


class HeldOutScores(nn.Module):
    """Scores of a student and its frozen teacher, gathered batch by batch.

    Args:
        layers: Specs of the layers whose maps are compared, for the names of their scores.
    """

    def __init__(self, layers: Sequence[int | str]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.gap_closed = one_each(GapClosed, layers)
        self.student_equivariance = one_each(EquivarianceError, layers)
        self.teacher_equivariance = one_each(EquivarianceError, layers)
        self._srt: dict[int, tuple[Tensor, ...]] = {}

    def update(
        self, images: Float[Tensor, "B 3 H W"], batch_idx: int, student: Extractor, srt: StochasticResonance
    ) -> dict[str, tuple[Tensor, ...]]:
        """Compare student, teacher and the teacher's SRT on a batch.

        Args:
            images: (B, 3, H+2m, W+2m) normalised images.
            batch_idx: Number of the batch. Teacher and images are fixed, so SRT of a number is computed once.
            student: The student's single pass.
            srt: SRT over the frozen teacher.

        Returns:
            Maps (B, C, h, w), one a layer, under "teacher", "srt" and "student".
        """
        if batch_idx not in self._srt:
            self._srt[batch_idx] = tuple(maps.cpu() for maps in srt(images))
        targets = tuple(maps.to(images.device) for maps in self._srt[batch_idx])
        cropped = crop_margin(images, srt.margin)
        ours, theirs = student(cropped), srt.extract(cropped)
        for metric, s, t, target in zip(self.gap_closed, ours, theirs, targets, strict=True):
            metric.update(s, t, target)
        for metrics, extract, maps in (
            (self.student_equivariance, student, ours),
            (self.teacher_equivariance, srt.extract, theirs),
        ):
            d = srt.radius
            corners = list(dict.fromkeys([(-d, -d), (-d, d), (d, -d), (d, d)]))
            for aligned in aligned_maps(extract, images, corners, radius=d, margin=srt.margin):
                for metric, single, moved in zip(metrics, maps, aligned, strict=True):
                    metric.update(single, moved)
        return {"teacher": theirs, "srt": targets, "student": ours}

    def compute(self) -> dict[str, Tensor]:
        """Scores over all batches since the last call, by name: mean over layers, and each where there are several."""
        scores: dict[str, Tensor] = {}
        for name, metrics in (
            ("gap_closed", self.gap_closed),
            ("equivariance_error_student", self.student_equivariance),
            ("equivariance_error_teacher", self.teacher_equivariance),
        ):
            values = [metric.compute() for metric in metrics]
            scores[name] = torch.stack(values).mean()
            if len(values) > 1:
                scores |= {f"{name}_layer_{layer}": v for layer, v in zip(self.layers, values, strict=True)}
            for metric in metrics:
                metric.reset()
        return scores


def crop_margin(images: Float[Tensor, "B 3 H W"], margin: int) -> Float[Tensor, "B 3 h w"]:
    """The images without their margin, in pixels."""
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


def one_each(kind: type[M], layers: Sequence[int | str]) -> Iterable[M]:
    """A metric for every layer, in a module list so that it moves with the module."""
    return cast(Iterable[M], nn.ModuleList(kind() for _ in layers))
