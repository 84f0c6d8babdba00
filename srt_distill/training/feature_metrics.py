"""What held-out, unlabeled images tell about a student.

Shape legend: B images, C channels, h w tokens.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from srt_distill.training.losses import relation_distance


class GapClosed(Metric):
    """Share of the distance from the single pass to SRT that the student has covered.

    1 - E‖student - SRT‖² / E‖teacher - SRT‖², sums taken over all images: 0 for an untouched student, 1 for a student
    whose single pass is the teacher's SRT, negative for one that moved away.
    """

    higher_is_better = True
    student_error: Tensor
    teacher_error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("student_error", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("teacher_error", torch.zeros(()), dist_reduce_fx="sum")

    def update(
        self,
        student: Float[Tensor, "B C h w"],
        teacher: Float[Tensor, "B C h w"],
        srt: Float[Tensor, "B C h w"],
    ) -> None:
        """Add a batch of maps: both single passes and the teacher's SRT."""
        self.student_error += self.distance(student, srt)
        self.teacher_error += self.distance(teacher, srt)

    def distance(self, maps: Float[Tensor, "B C h w"], srt: Float[Tensor, "B C h w"]) -> Float[Tensor, ""]:
        """Measure how far maps are from SRT, summed over the batch."""
        return (maps.float() - srt.float()).square().sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the share, a scalar; 0 where teacher and SRT agree, so that there is no gap."""
        if self.teacher_error == 0:
            return torch.zeros_like(self.student_error)
        return 1 - self.student_error / self.teacher_error


class RelationsClosed(GapClosed):
    """The same share of the distance of relations between tokens, whatever their values.

    Args:
        temperature: Of the softmax over similarities; see `srt_distill.training.losses.relation_distance`.
        window_radius: In tokens; None for the whole image.
    """

    def __init__(self, temperature: float, window_radius: int | None) -> None:
        super().__init__()
        self.temperature, self.window_radius = temperature, window_radius

    def distance(self, maps: Float[Tensor, "B C h w"], srt: Float[Tensor, "B C h w"]) -> Float[Tensor, ""]:
        """Measure how far relations are from SRT's, summed over the batch."""
        if not len(srt):
            return torch.zeros_like(self.teacher_error)
        return len(srt) * relation_distance(maps, srt, self.temperature, self.window_radius)


class EquivarianceError(Metric):
    """How far features are from moving with the image.

    E‖unshift(φ(shift(x))) - φ(x)‖² / E‖φ(x)‖² over images and shifts: 0 for features that follow a sub-patch shift.
    """

    higher_is_better = False
    error: Tensor
    energy: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("error", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("energy", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, single: Float[Tensor, "B C h w"], unshifted: Float[Tensor, "B C h w"]) -> None:
        """Add the maps of a single pass and those of one shifted pass, moved back."""
        self.error += (unshifted.float() - single.float()).square().sum()
        self.energy += single.float().square().sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the relative squared error, a scalar."""
        return self.error / self.energy


class FeatureSpread(Metric):
    """How many directions features fill, and how far they spread: both fall where a student smooths too much.

    The effective rank is exp(entropy) of the singular values of the centred token matrix, divided by their sum (Roy and
    Vetterli, EUSIPCO 2007): 1 where all tokens lie on a line, C where they spread evenly.
    """

    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "total", "products"):  # the number of channels is known with the first map
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, maps: Float[Tensor, "B C h w"]) -> None:
        """Add the tokens of a batch of maps."""
        exact = torch.float32 if maps.device.type == "mps" else torch.float64  # squares of which little is left
        tokens = maps.detach().transpose(0, 1).flatten(1).to(exact)
        self.count = self.count + tokens.shape[1]
        self.total = self.total + tokens.sum(1)
        self.products = self.products + tokens @ tokens.T

    def compute(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return effective rank, and variance summed over channels; of at least one token."""
        count, total, products = (state.to("cpu", torch.float64) for state in (self.count, self.total, self.products))
        covariance = products / count - torch.outer(total / count, total / count)
        share = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
        share = share / share.sum().clamp(min=torch.finfo(share.dtype).tiny)
        return torch.special.entr(share).sum().exp().float(), covariance.trace().float()


def weight_drift(pairs: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, ""]:
    """Measure the relative distance of weights from where they started, sqrt(Σ‖w - w0‖² / Σ‖w0‖²).

    Args:
        pairs: w and w0 of every parameter.
    """
    squares = [((w - w0).detach().float().square().sum(), w0.detach().float().square().sum()) for w, w0 in pairs]
    moved, size = (torch.stack(values).sum() for values in zip(*squares, strict=True))
    return (moved / size).sqrt()
