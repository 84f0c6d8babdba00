"""`srt-distill evaluate`: any backbone on DAVIS label propagation.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from srt_distill.backbone import BackboneOptions, PositionEmbedding
from srt_distill.backbone.execution import AttentionKernel, Precision, compile_blocks
from srt_distill.comparison.baseline_candidates import Baseline, make_baseline
from srt_distill.comparison.candidates import (
    PLAIN,
    Averaging,
    Features,
    Normalization,
    Variant,
    choose_device,
    choose_normalization,
    make_method,
)
from srt_distill.ensemble import ViewsPerBatch
from srt_distill.ensemble.shifts import Border, Subset
from srt_distill.runs import open_backbone
from srt_distill.tasks.davis.evaluation import evaluate_davis


def evaluate(
    backbone: str,
    data: Path,
    output: Path,
    weights: str | None = None,
    position_embedding: PositionEmbedding = "timm",
    layer: int | str = -1,
    norm: bool = True,
    shift_radius: int = 0,
    border: Border = "edge",
    shift_subset: Subset = "full",
    statistic: Averaging = "mean",
    grid_scale: int = 1,
    flip: bool = False,
    views_per_batch: ViewsPerBatch = 1,
    precision: Precision = "float32",
    attention: AttentionKernel = "auto",
    compile: bool = False,
    baseline: Baseline | None = None,
    token_stride: int | None = None,
    normalization: Normalization = "auto",
    device: str = "auto",
    **protocol: Any,
) -> None:
    """Score a backbone on DAVIS semi-supervised video object segmentation by label propagation.

    The first mask is carried from frame to frame along the similarity of features alone: no training, no head.
    Writes palette masks, the two official CSV tables and results.json. A sequence finished under the same settings is
    not computed again. The protocol is DINO's, which the paper follows; every number of it is an option.

    Args:
        backbone: A run folder or .ckpt (its student), an exported folder, `local-dir:`, `hf-hub:` or a timm model name.
        data: DAVIS folder with JPEGImages, Annotations and ImageSets.
        output: Folder for masks and tables.
        weights: Weights file for a timm model name: .safetensors, or .pth incl. DINO, DINOv2, MAE and DeiT releases.
        position_embedding: `timm` or, to reproduce DINO's numbers, `dino`.
        layer: Block whose features are used, 0-based, negative from the end; `8:key` (or query, value) for a facet.
        norm: Apply the final norm.
        shift_radius: d of SRT in pixels, (2d+1)² passes a frame; 0 is the single pass.
        border: What lies beyond the frame under SRT.
        shift_subset: Which of the (2d+1)² shifts SRT averages: `full`, or with fewer passes (at radius 3)
            `checkerboard` (25), `grid16` (16) or `grid9` (9).
        statistic: Of the shifted views: `mean` (SRT), `median` or `variance`, pixel by pixel before pooling.
        grid_scale: Cells a token and axis that SRT is pooled onto, from 1 (tokens) to the patch side (pixels).
        flip: Average every pass under SRT with that of the mirrored view, at twice the passes.
        views_per_batch: Shifted views that go through the backbone together; `auto` finds what fits into memory.
        precision: Format of the backbone's multiplications; features under `bfloat16` agree to about 1%.
        attention: Kernel that computes attention, of those that torch has for the device: `auto` leaves it to torch.
        compile: Compile the backbone's blocks: a minute more at the start, fewer seconds a frame.
        baseline: What the paper compares SRT with, in its place; ensembles take as many passes as SRT would.
        token_stride: Pixels between overlapping tokens; half the patch by default.
        normalization: `auto` uses DINO's constants where the model's own mean and std are ImageNet's, else the model's.
        device: `auto`, `cpu`, `cuda`, …
        protocol: The remaining options of `evaluate_davis`.
    """
    variant = Variant(statistic, grid_scale, flip)
    if baseline is not None and variant != PLAIN:
        raise ValueError(
            f"baseline {baseline} with{variant.name}: statistic, grid_scale and flip are of SRT, in whose place a "
            "baseline stands; leave them or the baseline out"
        )
    where = choose_device(device)
    model = open_backbone(BackboneOptions(backbone, weights, position_embedding))
    if compile:
        compile_blocks(model)
    features = Features(layer, norm, shift_radius, border, shift_subset, precision, attention)
    mean, std = choose_normalization(model, normalization)
    if baseline is None:
        method = make_method(backbone, model, features, views_per_batch=views_per_batch, device=where, variant=variant)
    else:
        method = make_baseline(baseline, model, features, mean=mean, std=std, token_stride=token_stride, device=where)
    result = evaluate_davis(
        method.extract,
        data,
        output,
        mean=mean,
        std=std,
        fingerprint=method.fingerprint,
        output_shifts=method.output_shifts,
        device=where,
        **protocol,
    )
    width = max(len(sequence.name) for sequence in result.sequences)
    print(f"{'sequence':<{width}}  J&F-Mean  J-Mean  F-Mean")
    for name, scores in [*((s.name, s.scores) for s in result.sequences), ("all objects", result.scores)]:
        print(f"{name:<{width}}  {scores['J&F-Mean']:8.4f}  {scores['J-Mean']:.4f}  {scores['F-Mean']:.4f}")
    print(f"{method.passes} passes a frame; masks and tables in {output}")


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and evaluate."""
    auto_cli(evaluate, args=list(arguments), as_positional=False, prog="srt-distill evaluate")
