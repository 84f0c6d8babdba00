"""Candidates that need no network: mean colours of cells, readable at any layer."""

import torch
import torch.nn.functional as F

from srt_distill.ensemble import StochasticResonance
from srt_distill.images import IMAGENET
from srt_distill.tasks.candidate import Candidate


def cells(patch=8, scale=1.0):
    """An extractor: mean colours, their squares and a constant of cells of `patch` pixels."""

    def extract(images):
        means = F.avg_pool2d(images * scale, patch)
        return (torch.cat([means, means**2, torch.ones_like(means[:, :1])], 1),)

    return extract


def made_candidate(patch=8, radius=None, **options):
    """Every block has the same map; the class token is the mean of the map, with a register beside it."""
    plain = cells(patch)

    def read(layers, norm):
        def extract(images):
            (tokens,) = plain(images)
            prefix = tokens.mean((2, 3), keepdim=True).repeat(1, 2, 1, 1)
            return tuple(prefix if str(layer).endswith(":prefix") else tokens for layer in layers)

        return extract if radius is None else StochasticResonance(extract, radius)

    extract = plain if radius is None else StochasticResonance(plain, radius)
    return Candidate("cells", extract, IMAGENET, read=read, **options)


def judge_all(task, candidate, folder):
    """Outcomes by item, as the driver gets them."""
    prepared = task.prepare(candidate)
    return {item: task.judge(candidate, prepared, item, folder / item.name) for item in task.items()}
