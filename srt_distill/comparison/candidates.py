"""What `evaluate` and `compare` share: a backbone's features of one layer, in one pass or under SRT.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from srt_distill.backbone import FeatureExtractor, describe_backbone, hash_weights
from srt_distill.backbone.execution import AttentionKernel, Precision, run_with
from srt_distill.backbone.layers import parse_layer
from srt_distill.comparison.rows import Method
from srt_distill.ensemble import (
    FineResonance,
    PerturbationMean,
    ShiftStatistic,
    StochasticResonance,
    ViewsPerBatch,
)
from srt_distill.ensemble.shifts import Border, Subset, check_radius
from srt_distill.extractor import Extractor
from srt_distill.tasks.davis.evaluation import DAVIS_MEAN, DAVIS_STD

Normalization = Literal["auto", "model", "dino"]
Averaging = Literal["mean", "median", "variance"]
"""What is taken over shifted views: SRT's mean, or a `srt_distill.ensemble.Statistic`."""
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Features:
    """Which features are scored.

    Attributes:
        layer: Block, 0-based, negative from the end, with an optional facet: `8:key`.
        norm: Apply the final norm.
        shift_radius: d of SRT, in pixels; 0 is the single pass.
        border: What lies beyond the frame.
        shift_subset: Which shifts of the grid are averaged.
        precision: Format of the backbone's multiplications.
        attention: Kernel of its attention.
    """

    layer: int | str
    norm: bool
    shift_radius: int
    border: Border
    shift_subset: Subset = "full"
    precision: Precision = "float32"
    attention: AttentionKernel = "auto"


@dataclass(frozen=True)
class Variant:
    """What SRT is, if not the mean over shifts on the token grid.

    Attributes:
        statistic: Over the shifts: `mean`, `median` or `variance`.
        grid_scale: s, cells a token and axis; up to the patch side.
        flip: Average every pass with that of the mirrored view.
    """

    statistic: Averaging = "mean"
    grid_scale: int = 1
    flip: bool = False

    @property
    def name(self) -> str:
        """What a table adds to the name of SRT, such as " median, grid x4, flips"; nothing for the mean on tokens."""
        words = [self.statistic] * (self.statistic != "mean")
        words += [f"grid x{self.grid_scale}"] * (self.grid_scale != 1) + ["flips"] * self.flip
        return " " * bool(words) + ", ".join(words)


PLAIN = Variant()


def require_maps(layers: Sequence[int | str]) -> None:
    """Refuse class and register tokens where a map of the image is scored or drawn.

    Raises:
        ValueError: If a spec means prefix tokens.
    """
    for layer in layers:
        if parse_layer(layer).facet == "prefix":
            raise ValueError(
                f"layer {layer} is of class and register tokens, which are no map of the image; choose one without "
                "':prefix' (they can be distilled, with `srt-distill fit --model.layers`)"
            )


def extract_layer(model: nn.Module, features: Features) -> Extractor:
    """The single pass: a backbone's layer, run as the features say."""
    require_maps([features.layer])
    extract = FeatureExtractor(model, (features.layer,), norm=features.norm)
    return run_with(extract, features.precision, features.attention)


def make_method(
    name: str,
    model: nn.Module,
    features: Features,
    *,
    views_per_batch: ViewsPerBatch,
    device: torch.device,
    variant: Variant = PLAIN,
) -> Method:
    """A named extractor of a backbone, with what a table says about it.

    Args:
        name: Of its row.
        model: The backbone.
        features: Which features.
        views_per_batch: Shifted views that go through the backbone together.
        device: Where to extract.
        variant: What is done with the shifted views, if not averaged on the token grid.

    Raises:
        ValueError: If the layer is out of range, the radius not smaller than the patch, or the variant does not fit.
    """
    info = describe_backbone(model)
    check_radius(features.shift_radius, info.patch_size, info.name)
    extract = extract_layer(model.to(device), features)
    if variant.flip:
        extract = PerturbationMean(extract)
    srt = StochasticResonance(
        extract, features.shift_radius, features.border, views_per_batch, subset=features.shift_subset
    )
    fingerprint = {"weights": hash_weights(model), "architecture": info.name, **asdict(features)}
    if variant == PLAIN:
        return Method(name, srt, len(srt.shifts), info.num_parameters, fingerprint)
    if variant.statistic != "mean":
        varied = ShiftStatistic(srt, variant.statistic, variant.grid_scale)
    else:
        varied = FineResonance(srt, variant.grid_scale)
    passes = len(srt.shifts) * (2 if variant.flip else 1)
    return Method(name, varied, passes, info.num_parameters, {**fingerprint, **asdict(variant)})


def name_ensemble(shift_radius: int, shift_subset: Subset) -> str:
    """What tables and pictures call SRT: "SRT d=3", or "SRT d=3 grid9" for a part of the grid."""
    return f"SRT d={shift_radius}" + ("" if shift_subset == "full" else f" {shift_subset}")


def choose_normalization(
    model: nn.Module, normalization: Normalization
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std that images are normalised with.

    Args:
        model: The backbone.
        normalization: `model` for its own; `dino` for the constants of DINO's DAVIS script, whose std differs from
            ImageNet's in one digit; `auto` for these where the model's own are ImageNet's, else the model's.
    """
    info = describe_backbone(model)
    mean, std = info.mean[:3], info.std[:3]
    imagenet = mean == DAVIS_MEAN and std == IMAGENET_STD
    if normalization == "dino" or (normalization == "auto" and imagenet):
        return DAVIS_MEAN, DAVIS_STD
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def choose_device(device: str) -> torch.device:
    """The named device; `auto` is the accelerator at hand, or the CPU.

    Raises:
        ValueError: If torch does not know or see the device.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is not to be had here ({error}); use 'cpu' or 'auto'") from error
