"""Weights between the teacher's and the student's: some of the gain, for less of what the classifier pays.

Shape legend: none, weights are mixed name by name.
"""

import copy
from dataclasses import replace

import torch

from srt_distill.runs import Run


def interpolate_weights(run: Run, alpha: float) -> Run:
    """Go only part of the way: w = (1 − α) w0 + α w (WiSE-FT, Wortsman et al., CVPR 2022, Eq. 1).

    Args:
        run: A run; it is left as it is.
        alpha: α, above 0 (the teacher) and at most 1 (the student).

    Returns:
        The run with the mixed weights as its student, and without scores: they were measured of another one.

    Raises:
        ValueError: If α is outside of that.
    """
    if not 0 < alpha <= 1:
        raise ValueError(
            f"alpha {alpha} is not above 0 and at most 1: it is how far the weights go from the teacher's (0, nothing "
            "to export) to the student's (1)"
        )
    if alpha == 1:
        return run
    mixed, start = copy.deepcopy(run.student), run.teacher.state_dict()
    with torch.no_grad():
        for name, weights in mixed.state_dict().items():  # shares memory with the model
            if weights.is_floating_point():
                weights.copy_(torch.lerp(start[name].to(weights), weights, alpha))
    return replace(run, student=mixed, scores={})
