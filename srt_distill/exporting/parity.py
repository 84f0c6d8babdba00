"""Proof of zero cost: what the student needs to run, beside its teacher.

Shape legend: B images, K bands, C channels, H W pixels, p patch side in pixels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from srt_distill.backbone import FeatureExtractor
from srt_distill.latency import Latency, measure_latency

MAX_PAIRS = 50  # of latency measurements; the interval of a median narrows with their number


@dataclass(frozen=True)
class Parity:
    """Cost of the student and of the teacher it came from.

    Attributes:
        keys_and_shapes: Tensors in the state dict, the same names and shapes in both.
        num_parameters: Of student and teacher alike.
        image_size: (height, width) in pixels of the image that FLOPs and latency are of.
        student_flops: Floating point operations of one pass, a multiply-add counted as two.
        teacher_flops: The teacher's.
        latency: Time of the student's pass against the teacher's, measured in turns.
    """

    keys_and_shapes: int
    num_parameters: int
    image_size: tuple[int, int]
    student_flops: int
    teacher_flops: int
    latency: Latency

    @property
    def verdict(self) -> str:
        """What the latency says of the claim that the student is as fast as its teacher."""
        low, high = self.latency.ratio_low, self.latency.ratio_high
        if low <= 1 <= high:
            return "as fast as the teacher: 1 lies in the interval"
        return (
            f"1 lies outside {low:.3f} to {high:.3f}, though keys, shapes and operations are the teacher's: "
            "something else ran on this machine; export again on a quiet one"
        )


def measure_parity(
    student: nn.Module, teacher: nn.Module, images: Float[Tensor, "B K H W"], *, budget: float = 10.0
) -> Parity:
    """Compare what student and teacher hold and what a pass through each costs.

    Args:
        student: The adapted backbone.
        teacher: What it started from.
        images: The pass to measure, on the models' device.
        budget: Seconds after which no further pair of passes is timed.

    Returns:
        The comparison.

    Raises:
        RuntimeError: If keys, shapes or operations differ: the student is then not the teacher's architecture.
    """
    _require_same_keys(student, teacher)
    flops = count_flops(student, images), count_flops(teacher, images)
    if flops[0] != flops[1]:
        raise RuntimeError(
            f"a pass of the student takes {flops[0]:,} operations, of the teacher {flops[1]:,}; "
            "they must be one architecture"
        )
    return Parity(
        keys_and_shapes=len(student.state_dict()),
        num_parameters=sum(parameter.numel() for parameter in student.parameters()),
        image_size=(images.shape[-2], images.shape[-1]),
        student_flops=flops[0],
        teacher_flops=flops[1],
        latency=measure_latency(
            FeatureExtractor(student), images, FeatureExtractor(teacher), images, max_pairs=MAX_PAIRS, budget=budget
        ),
    )


def count_flops(model: nn.Module, images: Float[Tensor, "B K H W"]) -> int:
    """Floating point operations of the pass that gives a model's last map: convolutions, products, attention.

    Args:
        model: A backbone.
        images: What it is given.

    Returns:
        Operations, a multiply-add counted as two.
    """
    counter = FlopCounterMode(display=False)
    # the fused attention of CPUs is unknown to the counter: count the products it is made of
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        FeatureExtractor(model)(images)
    return int(counter.get_total_flops())


def _require_same_keys(student: nn.Module, teacher: nn.Module) -> None:
    ours = {key: tuple(value.shape) for key, value in student.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in teacher.state_dict().items()}
    if ours != theirs:
        differing = sorted(set(ours.items()) ^ set(theirs.items()))
        raise RuntimeError(
            f"student and teacher differ in keys or shapes: {differing[:5]}; the run's checkpoint is damaged"
        )
