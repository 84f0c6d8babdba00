"""`srt-distill visualize`: the features of any backbone as pictures.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from srt_distill.backbone import BackboneOptions, FeatureExtractor, PositionEmbedding, describe_backbone
from srt_distill.backbone.execution import AttentionKernel, Precision, compile_blocks, run_with
from srt_distill.backbone.layers import parse_layer
from srt_distill.comparison.candidates import choose_device, name_ensemble, require_maps
from srt_distill.ensemble import FineResonance, StochasticResonance, ViewsPerBatch
from srt_distill.ensemble.shifts import Border, Subset
from srt_distill.images import Normalization
from srt_distill.runs import open_backbone
from srt_distill.visualization import Column
from srt_distill.visualization import visualize as draw


def visualize(
    backbone: str,
    sources: list[Path],
    output: Path,
    student: str | None = None,
    weights: str | None = None,
    position_embedding: PositionEmbedding = "timm",
    layers: list[int | str] = [-1],  # noqa: B006 (the parser copies it)
    norm: bool = True,
    shift_radius: int = 3,
    border: Border = "edge",
    shift_subset: Subset = "full",
    scale: int | Literal["pixels"] = 1,
    views_per_batch: ViewsPerBatch = 1,
    precision: Precision = "float32",
    attention: AttentionKernel = "auto",
    compile: bool = False,
    short_side: int = 480,
    every: int = 1,
    frames_per_second: float = 12.5,
    device: str = "auto",
) -> None:
    """Draw what a backbone sees: PCA colours of a single pass, of SRT and, if given, of an adapted student.

    One row a layer, one principal component analysis a row, so that colours can be compared (paper, Figs. 2 and 6); the
    noise that SRT removes (Fig. 4); for videos also an MP4 and a GIF.

    Args:
        backbone: A run folder or .ckpt (its student), an exported folder, `local-dir:`, `hf-hub:` or a timm model name.
        sources: Images, folders of images and videos, as '[a.jpg, photos, clip.mp4]'.
        output: Folder for the pictures.
        student: A second backbone beside the first, named like it.
        weights: Weights file for a timm model name.
        position_embedding: `timm` or, to reproduce DINO's numbers, `dino`.
        layers: Blocks to draw, 0-based, negative from the end, with an optional facet, as '[3, 7, 8:key]'.
        norm: Apply the final norm.
        shift_radius: d of SRT in pixels; the paper draws with 7.
        border: What lies beyond the frame under SRT.
        shift_subset: Which of the (2d+1)² shifts SRT averages: `full`, or with fewer passes (at radius 3)
            `checkerboard` (25), `grid16` (16) or `grid9` (9).
        scale: Cells of SRT's map a token and axis: 1 for the token grid, `pixels` for one a pixel, as the paper draws
            it; adds the figure of SRT beside resized features (Fig. 5).
        views_per_batch: Shifted views that go through the backbone together; `auto` finds what fits into memory.
        precision: Format of the backbone's multiplications; features under `bfloat16` agree to about 1%.
        attention: Kernel that computes attention, of those that torch has for the device: `auto` leaves it to torch.
        compile: Compile the backbone's blocks: a minute more at the start, fewer seconds a frame.
        short_side: Pixels that the shorter side is resized to.
        every: Of a video, one frame in this many.
        frames_per_second: Speed of the written videos.
        device: `auto`, `cpu`, `cuda`, …
    """
    require_maps(layers)
    where = choose_device(device)
    model = open_backbone(BackboneOptions(backbone, weights, position_embedding)).to(where)
    if compile:
        compile_blocks(model)
    info = describe_backbone(model)
    single = run_with(FeatureExtractor(model, tuple(layers), norm=norm), precision, attention)
    ensemble = name_ensemble(shift_radius, shift_subset)
    srt = StochasticResonance(single, shift_radius, border, views_per_batch, subset=shift_subset)
    cells = min(info.strides[parse_layer(layer).layer] for layer in layers) if scale == "pixels" else scale
    own = Normalization(tuple(info.mean), tuple(info.std))
    columns = {
        "single pass": Column(single, own),
        ensemble: Column(srt if cells == 1 else FineResonance(srt, cells), own),
    }
    if student is not None:
        adapted = open_backbone(BackboneOptions(student, position_embedding=position_embedding)).to(where)
        if compile:
            compile_blocks(adapted)
        learned = describe_backbone(adapted)
        columns["student"] = Column(
            run_with(FeatureExtractor(adapted, tuple(layers), norm=norm), precision, attention),
            Normalization(tuple(learned.mean), tuple(learned.std)),
        )
    written = draw(
        columns,
        sources,
        output,
        patch=info.patch_size,
        layer_names=[f"layer {layer}" for layer in layers],
        single="single pass",
        ensemble=ensemble,
        short_side=short_side,
        every=every,
        frames_per_second=frames_per_second,
        device=where,
    )
    for path in written:
        print(path)


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and draw."""
    auto_cli(visualize, args=list(arguments), as_positional=False, prog="srt-distill visualize")
