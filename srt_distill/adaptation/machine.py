"""What the machine is, and what a training step takes on it.

Shape legend: B images, K bands, H W pixels.
"""

import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Real
from torch import Tensor

from srt_distill.comparison import choose_device
from srt_distill.latency import synchronize
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.held_out_scores import crop_margin

NUM_TIMED = 3
"""Steps timed after one that warms up; the median counts."""

LARGEST_BATCH = 16
"""Images per step tried first on an accelerator; a CPU keeps the recipe's."""

WORTH_COMPILING = 600.0
"""Seconds of training on a GPU from which compiling is tried: the trial costs time too, DeiT-Tiny's on a CPU 40 s."""


@dataclass(frozen=True)
class Machine:
    """What a run is computed on.

    Attributes:
        device: Of the models.
        name: In words.
        precision: As Lightning names it: `bf16-mixed` where the device multiplies in bfloat16, else `32-true`.
        num_workers: Processes that load images.
    """

    device: torch.device
    name: str
    precision: str
    num_workers: int

    @property
    def is_gpu(self) -> bool:
        """Whether compiled blocks and the fused AdamW may be chosen; on a CPU they gain under 1% of a step."""
        return self.device.type == "cuda"

    @property
    def accelerator(self) -> str:
        """Lightning's name of the kind of device."""
        return {"cuda": "gpu"}.get(self.device.type, self.device.type)

    def autocast(self) -> AbstractContextManager:
        """Compute as a run at this precision does."""
        half = self.precision == "bf16-mixed"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()


@dataclass(frozen=True)
class StepTime:
    """What a training step takes.

    Attributes:
        seconds: Median of those after the first.
        first: Seconds of the first, which compiles what is compiled.
    """

    seconds: float
    first: float


def look_at_machine(device: str = "auto") -> Machine:
    """Find the accelerator at hand, or the CPU, and what suits it.

    Args:
        device: `auto`, or a device that must be there.

    Raises:
        ValueError: If torch does not know or see it.
    """
    found = choose_device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if found.type == "cuda":
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        return Machine(found, torch.cuda.get_device_name(found), precision, max(1, min(8, cores - 1)))
    threads = torch.get_num_threads()
    cpu = f"CPU ({platform.machine()}, {threads} thread{'s' * (threads != 1)})"
    return Machine(found, cpu if found.type == "cpu" else found.type, "32-true", 1 if cores > 1 else 0)


def time_step(module: SRTDistillation, batch: Real[Tensor, "B K H W"], machine: Machine) -> StepTime:
    """Time a training step, teacher's passes and the student's both ways, without changing a weight.

    Args:
        module: With its models made.
        batch: Crops with their margin.
        machine: What it runs on.

    Raises:
        torch.OutOfMemoryError: If the batch does not fit into the accelerator.
    """
    module.to(machine.device)
    durations = []
    try:
        for number in range(NUM_TIMED + 1):
            synchronize(machine.device)
            begun = time.perf_counter()
            with machine.autocast():
                crops = batch.to(machine.device)
                images = module.normalization(crops)
                with torch.no_grad():
                    targets = module.target(crops, images, module.frozen.srt, (0, number))
                maps = module.student_features(crop_margin(images, module.reading.srt.margin))
                loss, _ = module.objective(maps, targets)
            loss.backward()
            synchronize(machine.device)
            durations.append(time.perf_counter() - begun)
    finally:
        module.zero_grad(set_to_none=True)
    return StepTime(sorted(durations[1:])[NUM_TIMED // 2], durations[0])


def compiling_pays(plain: StepTime, compiled: StepTime, steps: int) -> bool:
    """Tell whether compiled blocks save more over a run than compiling them at its start takes."""
    return steps * (plain.seconds - compiled.seconds) > compiled.first - compiled.seconds


def repeat_crops(crops: Real[Tensor, "B K H W"], count: int) -> Real[Tensor, "_ K H W"]:
    """Make a batch of `count` crops out of some, repeated as often as it takes."""
    return crops.repeat(-(-count // len(crops)), 1, 1, 1)[:count]


def fit_batch(time_batch: Callable[[int], StepTime], first: int) -> tuple[int, StepTime]:
    """Find the largest batch that fits: half as large as the one before until it does.

    Args:
        time_batch: Takes steps of so many images, and tells what one takes.
        first: Images tried first.

    Returns:
        Images per step, and what a step takes.

    Raises:
        torch.OutOfMemoryError: If not even one image fits.
    """
    batch = first
    while True:
        try:
            return batch, time_batch(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        torch.cuda.empty_cache()
