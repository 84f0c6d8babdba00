"""`srt-distill compare`: teacher, full SRT and student side by side.

Shape legend: none.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from jsonargparse import auto_cli
from torch import nn

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
    name_ensemble,
)
from srt_distill.comparison.compare import compare as compare_methods
from srt_distill.comparison.report import log_comparison, render_markdown
from srt_distill.comparison.rows import Method
from srt_distill.ensemble import ViewsPerBatch
from srt_distill.ensemble.baselines import Interpolation
from srt_distill.ensemble.shifts import Border, Subset
from srt_distill.runs import open_backbone

LOG_FOLDER = "tensorboard"  # in a run folder, where `srt-distill fit` keeps its log


def compare(
    teacher: str,
    student: str,
    data: Path,
    output: Path,
    teacher_weights: str | None = None,
    student_weights: str | None = None,
    position_embedding: PositionEmbedding = "timm",
    layer: int | str = -1,
    norm: bool = True,
    shift_radius: int = 3,
    border: Border = "edge",
    shift_subset: Subset = "full",
    statistic: Averaging = "mean",
    grid_scale: int = 1,
    flip: bool = False,
    views_per_batch: ViewsPerBatch = 1,
    precision: Precision = "float32",
    attention: AttentionKernel = "auto",
    compile: bool = False,
    baselines: list[Baseline] = [],  # noqa: B006 (the parser copies it)
    token_stride: int | None = None,
    tensorboard: Path | None = None,
    normalization: Normalization = "auto",
    device: str = "auto",
    **protocol: Any,
) -> None:
    """Score teacher (one pass), teacher under SRT ((2d+1)² passes) and student (one pass) on DAVIS, side by side.

    Writes results.json, results.md and report.html (one self-contained page: table, curves, overlays, features), with
    parameters and measured time a frame. Sequences finished under the same settings are not computed again.

    Args:
        teacher: The original: a timm model name, `local-dir:`, `hf-hub:`, a folder, or a run (its student).
        student: The adapted one: an exported folder, a run folder or .ckpt (its student), or any of the above.
        data: DAVIS folder with JPEGImages, Annotations and ImageSets.
        output: Folder for the report; each method's masks and tables go to a folder of its own.
        teacher_weights: Weights file if the teacher is a timm model name.
        student_weights: Weights file if the student is a timm model name.
        position_embedding: `timm` or, to reproduce DINO's numbers, `dino`.
        layer: Block whose features are used, 0-based, negative from the end; `8:key` (or query, value) for a facet.
        norm: Apply the final norm.
        shift_radius: d of SRT in pixels.
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
        baselines: Rows between SRT and student: what the paper compares SRT with, over the teacher's features, as
            '[naive_ensemble, bilinear]'. Interpolation costs no pass and gets a row over the student's features too.
        token_stride: Pixels between overlapping tokens; half the patch by default.
        tensorboard: A run folder, or any folder of a TensorBoard log: the table goes there as text, and each row as a
            trial with its scores into the tab of hyperparameters.
        normalization: `auto` uses DINO's constants where the model's own mean and std are ImageNet's, else the model's.
        device: `auto`, `cpu`, `cuda`, …
        protocol: The remaining options of `srt_distill.comparison.compare.compare`.
    """
    if shift_radius < 1:
        raise ValueError(f"shift radius {shift_radius} leaves no SRT to compare with; use 1 or more, the paper's is 3")
    where = choose_device(device)
    original = open_backbone(BackboneOptions(teacher, teacher_weights, position_embedding))
    adapted = open_backbone(BackboneOptions(student, student_weights, position_embedding))
    if compile:
        compile_blocks(original)
        compile_blocks(adapted)
    variant = Variant(statistic, grid_scale, flip)
    ensemble = name_ensemble(shift_radius, shift_subset) + variant.name
    mean, std = choose_normalization(original, normalization)
    features = Features(layer, norm, shift_radius, border, shift_subset, precision, attention)
    single = replace(features, shift_radius=0, shift_subset="full")

    def method(name: str, model: nn.Module, features: Features, variant: Variant = PLAIN) -> Method:
        return make_method(name, model, features, views_per_batch=views_per_batch, device=where, variant=variant)

    def baseline_over(model: nn.Module, baseline: Baseline) -> Method:
        return make_baseline(baseline, model, features, mean=mean, std=std, token_stride=token_stride, device=where)

    def smooth(baseline: Baseline) -> Method:
        method = baseline_over(adapted, baseline)
        return replace(method, name=f"student, {method.name}")

    methods = [
        method("teacher", original, single),
        method(ensemble, original, features, variant),
        *(baseline_over(original, baseline) for baseline in baselines),
        *(smooth(baseline) for baseline in baselines if baseline in get_args(Interpolation)),
        method("student", adapted, single),
    ]
    comparison = compare_methods(
        methods,
        data,
        output,
        mean=mean,
        std=std,
        reference="teacher",
        ensemble=ensemble,
        device=where,
        **protocol,
    )
    if tensorboard is not None:
        run_log = tensorboard / LOG_FOLDER
        log_comparison(comparison, run_log if run_log.is_dir() else tensorboard)
    print(render_markdown(comparison))
    print(f"report: {output / 'report.html'}")


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and compare."""
    auto_cli(compare, args=list(arguments), as_positional=False, prog="srt-distill compare")
