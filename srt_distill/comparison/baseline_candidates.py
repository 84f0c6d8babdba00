"""The baselines of the paper's tables, by the names that `evaluate` and `compare` take.

Shape legend: none, tensors stay inside the extractors.
"""

from typing import Literal

import torch
from torch import nn

from srt_distill.backbone import describe_backbone, hash_weights, overlap_tokens
from srt_distill.comparison.candidates import Features, extract_layer, name_ensemble
from srt_distill.comparison.rows import Method
from srt_distill.ensemble.baselines import InterpolatedFeatures, NaiveEnsemble, PooledFeatures, ShiftedViews
from srt_distill.ensemble.shifts import subset_shifts

Baseline = Literal[
    "naive_ensemble", "overlapping_tokens", "overlapping_tokens_pooled", "output_ensemble", "bilinear", "bicubic"
]
"""naive_ensemble: mean features of colour-jittered copies, as many as SRT has passes (Table 1).
overlapping_tokens: one pass with a smaller patch stride, on the finer grid that it gives (Table 1).
overlapping_tokens_pooled: the same averaged back onto the usual grid.
output_ensemble: SRT's views, but their propagated label maps are averaged instead of features ("OE").
bilinear, bicubic: one pass, interpolated to pixels and pooled back (Table 8).
"""


def make_baseline(
    baseline: Baseline,
    model: nn.Module,
    features: Features,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    token_stride: int | None = None,
    device: torch.device,
) -> Method:
    """A baseline over a backbone's features, with what a table says about it.

    Args:
        baseline: Which.
        model: The backbone.
        features: Layer, norm and how they are run; radius and subset of shifts decide the passes of both ensembles.
        mean: Per channel, what images are normalised with.
        std: Per channel.
        token_stride: Of overlapping tokens, in pixels; None for half the patch.
        device: Where to extract.

    Raises:
        ValueError: If an ensemble has no radius, or the model's tokens cannot overlap.
    """
    info = describe_backbone(model)
    single = extract_layer(model.to(device), features)
    fingerprint = {
        "weights": hash_weights(model),
        "architecture": info.name,
        "layer": features.layer,
        "norm": features.norm,
        "precision": features.precision,
        "attention": features.attention,
        "baseline": baseline,
    }
    if baseline in ("bilinear", "bicubic"):
        extract = InterpolatedFeatures(single, baseline)
        return Method(f"{baseline} features", extract, 1, info.num_parameters, fingerprint)
    if baseline in ("overlapping_tokens", "overlapping_tokens_pooled"):
        stride = token_stride or info.patch_size // 2
        fine = extract_layer(overlap_tokens(model, stride), features)
        pooled = baseline == "overlapping_tokens_pooled"
        name = f"overlapping tokens, stride {stride}" + ", pooled" * pooled
        extract = PooledFeatures(fine, info.patch_size) if pooled else fine
        return Method(name, extract, 1, info.num_parameters, {**fingerprint, "token_stride": stride})
    radius = features.shift_radius
    if not 1 <= radius < info.patch_size:
        raise ValueError(
            f"baseline {baseline} with shift radius {radius}: it gets as many passes as SRT; use a radius of 1 to "
            f"{info.patch_size - 1}, the paper's is 3"
        )
    if baseline == "naive_ensemble":
        num_views = len(subset_shifts(radius, features.shift_subset))
        extract = NaiveEnsemble(single, mean, std, num_views)
        details = {"num_views": num_views, "strength": extract.strength, "seed": extract.seed}
        return Method("naive ensemble", extract, num_views, info.num_parameters, {**fingerprint, **details})
    extract = ShiftedViews(single, radius, features.border, features.shift_subset)
    details = {"shift_radius": radius, "border": features.border, "shift_subset": features.shift_subset}
    name = name_ensemble(radius, features.shift_subset).replace("SRT", "output ensemble")
    return Method(name, extract, len(extract.shifts), info.num_parameters, {**fingerprint, **details}, extract.shifts)
