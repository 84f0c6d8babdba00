"""`srt-distill visualize`: the features of any backbone as pictures.

Shape legend: none.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from srt_distill.backbone import backbone_normalization
from srt_distill.backbone.layers import parse_layer
from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import load_model, require_maps, srt_reader
from srt_distill.ensemble import ShiftVariance, StochasticResonance
from srt_distill.ensemble.options import SRTOptions
from srt_distill.visualization import Column
from srt_distill.visualization import visualize as draw

SINGLE, STUDENT = "single pass", "student"


def visualize(
    backbone: BackboneOptions,
    sources: list[Path],
    output: Path,
    student: str | None = None,
    layers: Sequence[int | str] = (-1,),
    norm: bool = True,
    srt: SRTOptions = SRTOptions(),
    execution: ExecutionOptions = ExecutionOptions(),
    confidence: bool = False,
    short_side: int = 480,
    every: int = 1,
    frames_per_second: float = 12.5,
    white: float | None = None,
) -> list[Path]:
    """Draw what a backbone sees: PCA colours of a single pass, of SRT and, if given, of an adapted student.

    One row per layer, one principal component analysis per row, so that colours can be compared (paper, Figs. 2 and 6);
    the noise that SRT removes (Fig. 4); for videos also an MP4 and a GIF.

    Args:
        backbone: The model.
        sources: Images, folders of images and videos, as `a.jpg photos clip.mp4` or '[a.jpg, photos, clip.mp4]'.
        output: Folder for the pictures.
        student: A second backbone beside the first, named like it.
        layers: Blocks to draw, 0-based, negative from the end, with an optional facet, as '[3, 7, 8:key]'.
        norm: Apply the final norm.
        srt: What SRT averages; the paper draws with a radius of 7. A grid of `pixels`, as the paper draws it, adds the
            figure of SRT beside resized features (Fig. 5).
        execution: How the models are run.
        confidence: Draw too how far each token is to be trusted, of its variance over the shifts: as many passes again.
        short_side: Pixels that the shorter side is resized to.
        every: Of a video, one frame in this many.
        frames_per_second: Speed of the written videos.
        white: For a backbone that takes other than 3 channels, the value of image files that stands for 1.
    """
    require_maps(layers)
    features = FeatureOptions(layers[-1], norm)
    model = load_model(backbone, features, execution)
    single = model.read(layers, norm)
    if srt.grid == "pixels":
        srt = replace(srt, grid=min(model.info.strides[parse_layer(layer).layer] for layer in layers))
    own = backbone_normalization(model.module)
    ensemble = srt_reader(model, srt)(tuple(layers), norm)
    columns = {SINGLE: Column(single, own), srt.name: Column(ensemble, own)}
    shifted = StochasticResonance(single, srt.radius, srt.border, srt.views_per_batch, subset=srt.subset)
    if student is not None:
        adapted = replace(load_model(BackboneOptions(student), features, execution), readout="none")  # as the others
        columns[STUDENT] = Column(adapted.read(layers, norm), backbone_normalization(adapted.module))
    written = draw(
        columns,
        sources,
        output,
        patch=model.info.patch_size,
        layer_names=[f"layer {layer}" for layer in layers],
        single=SINGLE,
        ensemble=srt.name,
        variance=Column(ShiftVariance(shifted), own) if confidence else None,
        short_side=short_side,
        every=every,
        frames_per_second=frames_per_second,
        white=white,
        device=next(model.module.parameters()).device,
    )
    for path in written:
        print(path.as_posix().encode("utf-8", "backslashreplace").decode())
    return written


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and draw."""
    visualize(**CommandParser("visualize", visualize).read(arguments))
