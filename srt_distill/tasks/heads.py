"""Train a small head on frozen features: one function for every task that has heads.

Shape legend: C channels, h w tokens, B images, K channels of an output, H W pixels.

Features are extracted once and kept in memory, so images are not augmented. Everything random, a head's first weights
and the batches, comes from a seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from srt_distill.tasks.canvas import Placement

T = TypeVar("T")

GRAD_NORM = 35.0  # DINOv2's depth heads


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained: AdamW, linear warm-up, cosine to 0.

    Args:
        steps: Batches.
        batch_size: Images per batch, all of one size.
        learning_rate: At the end of the warm-up.
        weight_decay: AdamW's.
        warmup: Share of the steps.
        seeds: Heads that are trained, with seeds 0, 1, …; each judges every image.
    """

    steps: int = 500
    batch_size: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    seeds: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1; a head needs at least 1")


@dataclass(frozen=True)
class Sample:
    """What a head learns from of one image.

    Attributes:
        features: Maps (C, h, w), on the CPU, outside inference mode.
        target: What its output is compared with, (H, W).
        placement: Of the image that the target is of, in the canvas that the features are of.
    """

    features: tuple[Tensor, ...]
    target: Shaped[Tensor, "_H _W"]
    placement: Placement

    @property
    def sizes(self) -> tuple:
        """What all samples of a batch have in common."""
        return tuple(tuple(m.shape) for m in self.features), tuple(self.target.shape), self.placement


def keep_features(maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Take a candidate's maps of one image, (1, C, h, w) each, out of inference mode and off its device."""
    return tuple(features[0].float().cpu().clone() for features in maps)


def train_head(
    make_head: Callable[[Sequence[int]], nn.Module],
    samples: Sequence[Sample],
    loss: Callable[[Tensor, Tensor, int], Tensor],
    training: HeadTraining,
    seed: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Train a head.

    Args:
        make_head: Channels of each map to a head; its forward takes maps (B, C, h, w) and gives (B, K, h', w').
        samples: Images of several sizes may be among them.
        loss: Of an output on the image (B, K, H, W), the targets (B, H, W) and the number of steps taken.
        training: How.
        seed: Of the first weights and of the batches.
        device: Where to train.

    Returns:
        The head's state, on the CPU.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    head = _seeded(lambda: make_head([features.shape[0] for features in samples[0].features]), seed).to(device).train()
    draws = torch.Generator().manual_seed(seed)
    groups: dict[tuple, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.sizes, []).append(sample)
    of_sample = [group for group in groups.values() for _ in group]  # a size is drawn as often as it has images
    optimizer = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=training.weight_decay)
    for step in range(training.steps):
        group = of_sample[int(torch.randint(len(of_sample), (), generator=draws))]
        chosen = torch.randperm(len(group), generator=draws)[: training.batch_size].tolist()
        batch = [group[index] for index in chosen]
        features = tuple(
            torch.stack(maps).to(device) for maps in zip(*(sample.features for sample in batch), strict=True)
        )
        targets = torch.stack([sample.target for sample in batch]).to(device)
        for parameters in optimizer.param_groups:
            parameters["lr"] = training.learning_rate * rate_factor(step, training.steps, training.warmup)
        size = targets.shape[-2], targets.shape[-1]
        value = loss(batch[0].placement.onto(head(*features), size), targets, step)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the head's loss is {value.item()} at step {step}; lower the learning rate")
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(head.parameters(), GRAD_NORM)
        optimizer.step()
    return {name: value.detach().cpu().clone() for name, value in head.state_dict().items()}


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Give the factor on the learning rate: up linearly over the warm-up's share of steps, then down as a cosine."""
    num_warm = math.ceil(warmup * steps)
    if step < num_warm:
        return (step + 1) / num_warm
    return 0.5 * (1 + math.cos(math.pi * (step - num_warm) / max(1, steps - num_warm)))


def spread_evenly(values: Sequence[T], number: int | None) -> Sequence[T]:
    """Choose `number` of the values, evenly spread; all if None or if there are no more."""
    if number is None or number >= len(values):
        return values
    return [values[index * len(values) // number] for index in range(number)]


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a module whose weights come from a seed, leaving the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
