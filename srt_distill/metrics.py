"""What held-out, unlabeled images tell about a student.

Shape legend: B images, C channels, h w tokens.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


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
        self.student_error += (student.float() - srt.float()).square().sum()
        self.teacher_error += (teacher.float() - srt.float()).square().sum()

    def compute(self) -> Float[Tensor, ""]:
        """The share, a scalar; 0 where teacher and SRT agree, so that there is no gap."""
        if self.teacher_error == 0:
            return torch.zeros_like(self.student_error)
        return 1 - self.student_error / self.teacher_error


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
        """The relative squared error, a scalar."""
        return self.error / self.energy
