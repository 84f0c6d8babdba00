"""Averaged weights: of a run of any length, its last steps.

Shape legend: none.
"""

import torch
from jaxtyping import Float
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class AveragedWeights(WeightAveraging):
    """Average weights with the most weight on the last steps, however many there were.

    Polynomial-decay averaging (Shamir and Zhang, ICML 2013): w̄_t = w̄_{t−1} + (1+η)/(t+η) · (w_t − w̄_{t−1}), whose mean
    age grows with the run, t / (2+η). An exponential average with the usual decay of .999 forgets where a run of a few
    hundred steps began only when that is over.

    What is measured, saved and exported are the averages; a run that is resumed goes on from the weights themselves.

    Args:
        eta: η; 0 is the plain mean over all steps.
    """

    def __init__(self, eta: float = 16.0) -> None:
        if eta < 0:
            raise ValueError(f"eta {eta} is negative; use 0 for the mean over all steps, more for the last ones")
        self.eta = eta
        super().__init__(device=None, avg_fn=self._average)

    def _average(
        self, averaged: Float[Tensor, "..."], weights: Float[Tensor, "..."], num_averaged: Tensor | int
    ) -> Float[Tensor, "..."]:
        step = int(num_averaged) + 1
        # as a step from the average: what does not move, such as the teacher, stays what it is to the bit
        return torch.lerp(averaged, weights, (1 + self.eta) / (step + self.eta))
