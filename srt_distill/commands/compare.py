"""`srt-distill compare`: teacher, full SRT and student side by side.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli

from srt_distill.backbone import PositionEmbedding
from srt_distill.batching import ViewsPerBatch
from srt_distill.commands.single_layer import (
    Features,
    Normalization,
    choose_device,
    choose_normalization,
    make_method,
    name_ensemble,
)
from srt_distill.evaluation.comparison import compare as compare_methods
from srt_distill.evaluation.report import render_markdown
from srt_distill.runs import open_backbone
from srt_distill.shifts import Border, Subset


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
    views_per_batch: ViewsPerBatch = 1,
    normalization: Normalization = "auto",
    split: str = "val",
    year: str = "2017",
    sequences: list[str] | None = None,
    scale: float = 1.0,
    size_multiple: int = 64,
    num_context_frames: int = 7,
    window_radius: int | None = 12,
    top_k: int = 5,
    temperature: float = 0.1,
    device: str = "auto",
    num_workers: int = 2,
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
        views_per_batch: Shifted views that go through the backbone together; `auto` finds what fits into memory.
        normalization: `auto` uses DINO's constants where the model's own mean and std are ImageNet's, else the model's.
        split: Name of the list under ImageSets/<year>.
        year: Which lists.
        sequences: Names to evaluate instead of the whole split, as '[a, b]'.
        scale: Factor on the short side of 480 pixels; 0.5 is half resolution.
        size_multiple: What the long side is cut down to a multiple of.
        num_context_frames: Previous frames to look at besides the first.
        window_radius: Half side of the search window in tokens; null looks everywhere.
        top_k: Context tokens that a token averages.
        temperature: Of the softmax over those.
        device: `auto`, `cpu`, `cuda`, …
        num_workers: Threads that read and resize frames.
    """
    if shift_radius < 1:
        raise ValueError(f"shift radius {shift_radius} leaves no SRT to compare with; use 1 or more, the paper's is 3")
    where = choose_device(device)
    original = open_backbone(teacher, weights=teacher_weights, position_embedding=position_embedding)
    adapted = open_backbone(student, weights=student_weights, position_embedding=position_embedding)
    ensemble = name_ensemble(shift_radius, shift_subset)
    methods = [
        make_method(
            name,
            model,
            Features(layer, norm, radius, border, shift_subset),
            views_per_batch=views_per_batch,
            device=where,
        )
        for name, model, radius in (
            ("teacher", original, 0),
            (ensemble, original, shift_radius),
            ("student", adapted, 0),
        )
    ]
    mean, std = choose_normalization(original, normalization)
    comparison = compare_methods(
        methods,
        data,
        output,
        mean=mean,
        std=std,
        ensemble=ensemble,
        split=split,
        year=year,
        sequences=sequences,
        scale=scale,
        size_multiple=size_multiple,
        num_context_frames=num_context_frames,
        window_radius=window_radius,
        top_k=top_k,
        temperature=temperature,
        device=where,
        num_workers=num_workers,
    )
    print(render_markdown(comparison))
    print(f"report: {output / 'report.html'}")


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and compare."""
    auto_cli(compare, args=list(arguments), as_positional=False, prog="srt-distill compare")
