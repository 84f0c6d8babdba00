"""How a student does on held-out, unlabeled images, beside the teacher it learns from.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, m margin and d shift radius in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from srt_distill.backbone.layers import parse_layer
from srt_distill.ensemble import StochasticResonance, aligned_maps
from srt_distill.extractor import Extractor
from srt_distill.runs import GAP_CLOSED, RELATIONS_CLOSED
from srt_distill.training.feature_metrics import EquivarianceError, FeatureSpread, GapClosed, RelationsClosed
from srt_distill.training.settings import RelationOptions

M = TypeVar("M", bound=Metric)


class FrozenTeacher(NamedTuple):
    """What a student is measured between."""

    single: Extractor
    """Where it starts: the teacher's single pass."""
    srt: StochasticResonance
    """Where it should go: SRT over the teacher, of features that may have been smoothed first."""


class HeldOutScores(nn.Module):
    """Scores of a student and its frozen teacher, gathered batch by batch, none of which needs a label.

    gap_closed: share of the way from the teacher's single pass to the target, of maps of tokens alone (class and
    register tokens hardly move under SRT, so that theirs says little); gap_closed_origin: the same for the backbone
    that the first of several rounds started from; relations_closed: the same of the relations between tokens, where
    these are taught. equivariance_error: what moves when the image moves by less than a patch. effective_rank,
    feature_variance: how the tokens spread, which too much smoothing undoes.

    Args:
        layers: Specs of the layers whose maps are compared, for the names of their scores.
        relations: How tokens are related, where relations are taught; None where they are not.
    """

    def __init__(self, layers: Sequence[int | str], relations: RelationOptions | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.dense = dense_layers(layers) or list(range(len(layers)))
        self.gap_closed = one_each(GapClosed, layers)
        self.student_equivariance = one_each(EquivarianceError, layers)
        self.teacher_equivariance = one_each(EquivarianceError, layers)
        self.student_spread = one_each(FeatureSpread, layers)
        self.teacher_spread = one_each(FeatureSpread, layers)
        self.gap_closed_origin = one_each(GapClosed, layers)
        how = None if relations is None else (relations.temperature, relations.window_radius)
        self.headline = GAP_CLOSED if relations is None else RELATIONS_CLOSED  # tells whether the student is better
        self.relations_closed = nn.ModuleList([] if how is None else [RelationsClosed(*how) for _ in self.dense])
        self._seen: dict[tuple[str, int], tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = {}

    def update(
        self,
        images: Float[Tensor, "B K H W"],
        batch_idx: int,
        student: Extractor,
        teacher: FrozenTeacher,
        origin: FrozenTeacher | None = None,
    ) -> dict[str, tuple[Tensor, ...]] | None:
        """Compare student, teacher and the teacher's SRT on a batch.

        Args:
            images: (B, K, H+2m, W+2m) normalised images.
            batch_idx: Number of the batch. Teachers and images are fixed, so SRT of a number is computed once.
            student: The student's single pass.
            teacher: The frozen teacher.
            origin: That of the first round, where this is a later one.

        Returns:
            Maps (B, C, h, w), one per layer, under "teacher", "srt" and "student"; None of no images, as the last
            batch of a process may be where others have one more.

        Raises:
            FloatingPointError: If the student's features are no longer finite.
        """
        srt = teacher.srt
        if not len(images):
            one = student(crop_margin(images.new_zeros(1, *images.shape[1:]), srt.margin))
            self._add_no_image(tuple(maps[:0] for maps in one), origin is not None)
            return None
        theirs, targets = self._look_up("teacher", batch_idx, images, teacher)
        ours = student(crop_margin(images, srt.margin))
        if not all(bool(maps.isfinite().all()) for maps in ours):
            raise FloatingPointError("the student's features on held-out images are no longer finite (NaN or infinity)")
        gaps = [(self.gap_closed, theirs, targets)]
        if origin is not None:
            gaps.append((self.gap_closed_origin, *self._look_up("origin", batch_idx, images, origin)))
        for metrics, single, averaged in gaps:
            for metric, s, t, target in zip(metrics, ours, single, averaged, strict=True):
                metric.update(s, t, target)
        for metric, index in zip(self.relations_closed, self.dense, strict=False):  # none where none are taught
            cast(RelationsClosed, metric).update(ours[index], theirs[index], targets[index])
        for moves, spreads, extract, maps in (
            (self.student_equivariance, self.student_spread, student, ours),
            (self.teacher_equivariance, self.teacher_spread, teacher.single, theirs),
        ):
            d = srt.radius
            corners = list(dict.fromkeys([(-d, -d), (-d, d), (d, -d), (d, d)]))
            for aligned in aligned_maps(extract, images, corners, radius=d, margin=srt.margin):
                for metric, single, moved in zip(moves, maps, aligned, strict=True):
                    metric.update(single, moved)
            for metric, single in zip(spreads, maps, strict=True):
                metric.update(single)
        return {"teacher": theirs, "srt": targets, "student": ours}

    def _add_no_image(self, maps: Sequence[Float[Tensor, "0 C _h _w"]], has_origin: bool) -> None:
        """Give all sums their shapes: a process that has no held-out image adds up with the others, too."""
        for metrics in (self.gap_closed, self.gap_closed_origin)[: 1 + has_origin]:
            for metric, none in zip(metrics, maps, strict=True):
                metric.update(none, none, none)
        for metric, index in zip(self.relations_closed, self.dense, strict=False):
            cast(RelationsClosed, metric).update(maps[index], maps[index], maps[index])
        for metrics in (self.student_equivariance, self.teacher_equivariance):
            for metric, none in zip(metrics, maps, strict=True):
                metric.update(none, none)
        for metrics in (self.student_spread, self.teacher_spread):
            for metric, none in zip(metrics, maps, strict=True):
                metric.update(none)

    def _look_up(
        self, role: str, batch_idx: int, images: Tensor, teacher: FrozenTeacher
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Look up single pass and SRT of a frozen backbone, kept on the CPU."""
        if (role, batch_idx) not in self._seen:
            single, averaged = teacher.single(crop_margin(images, teacher.srt.margin)), teacher.srt(images)
            self._seen[role, batch_idx] = tuple(m.cpu() for m in single), tuple(m.cpu() for m in averaged)
        single, averaged = (tuple(m.to(images.device) for m in maps) for maps in self._seen[role, batch_idx])
        return single, averaged

    def compute(self) -> dict[str, Tensor]:
        """Return scores over all batches since the last call: the mean over dense layers, and each of several."""
        values = {
            "gap_closed": [metric.compute() for metric in self.gap_closed],
            "equivariance_error_student": [metric.compute() for metric in self.student_equivariance],
            "equivariance_error_teacher": [metric.compute() for metric in self.teacher_equivariance],
        }
        if any(metric.update_called for metric in self.gap_closed_origin):
            values["gap_closed_origin"] = [metric.compute() for metric in self.gap_closed_origin]
        for role, spreads in (("student", self.student_spread), ("teacher", self.teacher_spread)):
            ranks, variances = zip(*(metric.compute() for metric in spreads), strict=True)
            values |= {f"effective_rank_{role}": list(ranks), f"feature_variance_{role}": list(variances)}
        scores: dict[str, Tensor] = {}
        for name, by_layer in values.items():
            scores[name] = torch.stack([by_layer[index] for index in self.dense]).mean()
            if len(by_layer) > 1:
                scores |= {f"{name}_layer_{layer}": v for layer, v in zip(self.layers, by_layer, strict=True)}
        if len(self.relations_closed):
            shares = [cast(RelationsClosed, metric).compute() for metric in self.relations_closed]
            scores["relations_closed"] = torch.stack(shares).mean()
        self.reset()
        return scores

    def reset(self) -> None:
        """Forget what was gathered since the last `compute`, not what was computed of the frozen teachers."""
        for module in self.modules():
            if isinstance(module, Metric):
                module.reset()


def dense_layers(layers: Sequence[int | str]) -> list[int]:
    """Find which of the chosen layers give a map of the image, not one of class and register tokens."""
    return [index for index, spec in enumerate(layers) if parse_layer(spec).facet != "prefix"]


def crop_margin(images: Float[Tensor, "B K H W"], margin: int) -> Float[Tensor, "B K h w"]:
    """Cut off the margin of images, in pixels."""
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


def one_each(kind: type[M], layers: Sequence[int | str]) -> Iterable[M]:
    """Make a metric for every layer, in a module list so that it moves with the module."""
    return cast(Iterable[M], nn.ModuleList(kind() for _ in layers))
