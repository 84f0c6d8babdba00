"""The optimiser and learning-rate schedule of a run that names none of its own.

Shape legend: none.
"""

import math
from collections.abc import Callable, Iterable

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

OptimizerFactory = Callable[[Iterable], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


def default_optimizer(params: Iterable) -> Optimizer:
    """AdamW at 1e-4 without weight decay, which would pull a pre-trained backbone towards zero."""
    return AdamW(params, lr=1e-4, weight_decay=0.0)


def one_cycle(step: int | float, num_steps: int, warmup: float = 0.3) -> float:
    """Learning rate at a step as a share of its peak: a cosine up over the first `warmup` of them, then down.

    Unlike torch's OneCycleLR it has no end that a resumed and prolonged run could overstep.
    """
    peak = warmup * num_steps
    if step < peak:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / peak)) / 2
    return (1 + math.cos(math.pi * min((step - peak) / (num_steps - peak), 1))) / 2


def schedule_one_cycle(
    optimizer: Optimizer, num_steps: float, time_passed: Callable[[], float] | None = None
) -> LambdaLR:
    """Drive an optimiser's learning rates through `one_cycle`, to the end of a run.

    Args:
        optimizer: Any.
        num_steps: Steps of the run; infinite where only time ends it.
        time_passed: Tells which share of the run's time has passed, where time may end it.

    Raises:
        ValueError: If nothing ends the run.
    """
    if math.isinf(num_steps) and time_passed is None:
        raise ValueError(
            "this run has no end (trainer.max_steps -1, trainer.max_epochs -1, no trainer.max_time), and the default "
            "schedule of the learning rate goes to its end; set one of them, or another schedule, such as "
            "--model.lr_scheduler ConstantLR"
        )
    if time_passed is None:
        return LambdaLR(optimizer, lambda step: one_cycle(step, int(num_steps)))
    return LambdaLR(optimizer, lambda step: one_cycle(max(step / num_steps, min(time_passed(), 1.0)), 1))


def scale_rates(optimizer: Optimizer) -> Optimizer:
    """Multiply the learning rate of every group of parameters by its `lr_scale`, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale", 1.0)
    return optimizer
