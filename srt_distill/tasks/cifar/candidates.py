"""CIFAR-10 ResNets as candidates: the single pass, SRT before the head, and the mean of logits over the same shifts.

Shape legend: B images, C channels, H W pixels, h w cells of 4 x 4 pixels, K classes.

Table 6 of the SRT paper averages "at the final layer before the prediction head". After it only a mean over positions
and a linear layer follow, so moving a map back matters at the border alone: with circular shifts SRT *is* the mean of
logits, and with the edge rule the two differ by how often border cells count. Hence that baseline.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble import StochasticResonance, WideShiftMean
from srt_distill.ensemble.shifts import grid_shifts
from srt_distill.ensemble.wide_shifts import WideBorder
from srt_distill.extractor import Extractor
from srt_distill.images import IMAGENET
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.cifar.resnet import STRIDE, CifarResNet, load_resnet

PAPER = {20: (91.95, 92.41), 32: (92.68, 93.14), 56: (93.50, 93.87)}
"""Top-1 in percent on all 10,000 test images, single pass and SRT (Table 6); not of the released weights."""


def cifar_candidates(
    weights: Path,
    radii: Sequence[int] = (1, 2, 3, 4),
    borders: Sequence[WideBorder] = ("edge", "circular"),
    device: torch.device | str = "cpu",
) -> list[Candidate]:
    """Make the candidates of one network for `srt_distill.tasks.UntouchedHead`, the single pass first.

    Args:
        weights: File of a released ResNet.
        radii: d of SRT in pixels, (2d+1)² passes each; 4 takes shifts by a whole cell, too.
        borders: What lies beyond the frame, for SRT.
        device: Where it runs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no such network.
    """
    model = load_resnet(weights).to(device)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    found = [_candidate(f"ResNet-{model.depth}", model, model.features, 1, device, digest, {})]
    for radius in radii:
        passes = (2 * radius + 1) ** 2
        for border in borders:
            extract = srt_before_head(model.features, radius, border)
            details = {"radius": radius, "border": border}
            name = f"SRT d={radius} {border}"
            found.append(_candidate(name, model, extract, passes, device, digest, details))
        pooled = srt_before_head(lambda images: pool_map(model.features(images)), radius, "edge")
        details = {"radius": radius, "border": "edge", "logits": True}
        found.append(_candidate(f"mean of logits d={radius}", model, pooled, passes, device, digest, details))
    return found


def srt_before_head(extract: Extractor, radius: int, border: WideBorder) -> Extractor:
    """SRT over maps of stride 4, up to a radius of any size."""
    if radius < STRIDE and border != "counted":
        return StochasticResonance(extract, radius, border, "auto")
    return WideShiftMean(extract, grid_shifts(radius), border)


def pool_map(maps: tuple[Float[Tensor, "B C h w"], ...]) -> tuple[Float[Tensor, "B C 1 1"], ...]:
    """Average a map over positions, as the head does first."""
    return tuple(features.mean((2, 3), keepdim=True) for features in maps)


def _candidate(
    name: str,
    model: CifarResNet,
    extract: Extractor,
    passes: int,
    device: torch.device | str,
    digest: str,
    details: dict[str, object],
) -> Candidate:
    def read(layers: tuple[int | str, ...], norm: bool) -> Extractor:
        if any(layer not in (-1, "-1:prefix") for layer in layers):
            raise ValueError(f"a CIFAR-10 ResNet is read before its head, at -1 or -1:prefix, not at {layers}")

        def run(images: Tensor) -> tuple[Tensor, ...]:
            maps = extract(images)
            return tuple(pool_map(maps)[0] if layer == "-1:prefix" else maps[0] for layer in layers)

        return run

    return Candidate(
        name=name,
        extract=extract,
        normalization=IMAGENET,
        passes=passes,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        fingerprint={"architecture": f"cifar-resnet{model.depth}", "weights": digest, **details},
        device=torch.device(device),
        read=read,
        classify=model.linear,
    )
