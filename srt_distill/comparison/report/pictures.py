"""Pictures of a comparison: masks over frames, features as colours, noise; each small enough to live in the page.

Shape legend: C channels, H W pixels, h w tokens.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from srt_distill.comparison.rows import Comparison, Method
from srt_distill.tasks.davis.videos import Video, read_frame, read_mask
from srt_distill.visualization.noise import heat_map, heat_range, noise_map
from srt_distill.visualization.overlays import overlay_mask
from srt_distill.visualization.panels import Picture, resize_picture, to_picture
from srt_distill.visualization.projection import pca_projection

PHOTO_WIDTH = 400  # pixels; twice that of a cell on a telephone
JPEG_QUALITY = 82
NUM_OVERLAY_FRAMES = 3

PrepareFrame = Callable[[Method, Video, int], Float[Tensor, "1 3 H W"]]
"""The input of a method for one frame of a video."""


@dataclass(frozen=True)
class SequencePictures:
    """What the page shows of one sequence; every picture is a data URI.

    Attributes:
        name: of the sequence.
        size: height and width of its frames, the shape in which features are shown too.
        gain: J&F of the shown method less the reference's.
        overlays: rows of a frame number and its pictures: the ground truth, then each method's.
        feature_frame: number of the frame whose features are shown.
        photo: that frame.
        features: PCA colours by method; those of equal width share their projection.
        noise: distance to the ensemble by method, on one scale; empty without an ensemble.
    """

    name: str
    size: tuple[int, int]
    gain: float
    overlays: tuple[tuple[int, tuple[str, ...]], ...]
    feature_frame: int
    photo: str
    features: dict[str, str]
    noise: dict[str, str]


def draw_pictures(
    comparison: Comparison,
    methods: Sequence[Method],
    videos: Sequence[Video],
    output: Path,
    prepare: PrepareFrame,
    num_pictures: int,
) -> list[SequencePictures]:
    """Draws the sequences that `choose_sequences` picks.

    Args:
        comparison: the rows.
        methods: their extractors.
        videos: the evaluated sequences.
        output: where each method's masks lie, in the folder of its name.
        prepare: gives a method's input.
        num_pictures: sequences to draw.

    Returns:
        Their pictures, the largest gain first.
    """
    focus = shown_method(comparison)
    gains = sequence_gains(comparison, focus)
    by_name = {video.name: video for video in videos}
    return [
        _draw(comparison, methods, by_name[name], gains[name], output, prepare)
        for name in choose_sequences(gains, num_pictures)
    ]


def shown_method(comparison: Comparison) -> str:
    """The method whose gains pick the sequences: the last single pass but the reference, or else the last row."""
    others = [row for row in comparison.rows if row.name != comparison.reference]
    return next((row.name for row in reversed(others) if row.passes == 1), others[-1].name)


def sequence_gains(comparison: Comparison, name: str) -> dict[str, float]:
    """J&F of a method less the reference's, by sequence."""
    reference = comparison.row(comparison.reference).sequence_scores()
    return {sequence: score - reference[sequence] for sequence, score in comparison.row(name).sequence_scores().items()}


def choose_sequences(gains: dict[str, float], count: int) -> list[str]:
    """Sequences evenly spread from the largest gain to the largest loss, so that pictures flatter nobody.

    Args:
        gains: by sequence.
        count: how many; all where there are no more.

    Returns:
        Names, the largest gain first.
    """
    ordered = sorted(gains, key=lambda name: (-gains[name], name))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered)), dtype=int)).tolist() if count else []
    return [ordered[place] for place in places]


def _draw(
    comparison: Comparison,
    methods: Sequence[Method],
    video: Video,
    gain: float,
    output: Path,
    prepare: PrepareFrame,
) -> SequencePictures:
    last = len(video.frames) - 1
    shown = np.unique(np.linspace(0, last, NUM_OVERLAY_FRAMES + 1, dtype=int)[1:]).tolist()
    overlays = []
    for index in shown:
        frame, name = read_frame(video.frames[index]), video.masks[index].name
        paths = [video.masks[index], *(output / method.folder_name / video.name / name for method in methods)]
        overlays.append((index, tuple(_photo(overlay_mask(frame, read_mask(path))) for path in paths)))

    middle = last // 2
    with torch.inference_mode():
        maps = {method.name: method.extract(prepare(method, video, middle))[-1].float() for method in methods}
    noise: dict[str, Tensor] = {}
    if comparison.ensemble is not None:
        signal = maps[comparison.ensemble]
        noise = {
            n: noise_map(signal, m)[0] for n, m in maps.items() if n != comparison.ensemble and m.shape == signal.shape
        }
    high = heat_range(list(noise.values()))
    return SequencePictures(
        name=video.name,
        size=video.size,
        gain=gain,
        overlays=tuple(overlays),
        feature_frame=middle,
        photo=_photo(read_frame(video.frames[middle])),
        features=_color_features(maps),
        noise={name: _tokens(heat_map(distance, high)) for name, distance in noise.items()},
    )


def _color_features(maps: dict[str, Tensor]) -> dict[str, str]:
    """PCA colours of maps (1, C, h, w); maps with the same number of channels share one projection."""
    projections = {
        width: pca_projection([features for features in maps.values() if features.shape[1] == width])
        for width in {features.shape[1] for features in maps.values()}
    }
    return {name: _tokens(to_picture(projections[m.shape[1]](m)[0])) for name, m in maps.items()}


def _photo(picture: Picture) -> str:
    """A photograph as a small JPEG in a data URI."""
    width = min(PHOTO_WIDTH, picture.shape[1])
    small = resize_picture(picture, round(picture.shape[0] * width / picture.shape[1]), width)
    return _data_uri(small, "JPEG", quality=JPEG_QUALITY)


def _tokens(picture: Picture) -> str:
    """One pixel a token, losslessly; the page enlarges it to sharp blocks."""
    return _data_uri(picture, "PNG", optimize=True)


def _data_uri(picture: Picture, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
