"""`srt-distill visualize`: what extractors see in images, folders of images and videos.

Shape legend: B images, C channels, H W pixels, h w tokens (or pixels, where an extractor is that fine), p patch side.

    <name>-pca.png       image | one column an extractor, one row a layer; one PCA a row     (paper, Figs. 2 and 6)
    <name>-noise.png     ‖SRT − single pass‖ and ‖resized − single pass‖ on one scale         (Fig. 4)
    <name>-resized.png   single pass, its features resized, SRT, under one PCA               (Fig. 5)
    <name>-pca.mp4/.gif  the first of these over a video, one PCA for all its frames
    contact-sheet.png    all images at a glance, where there are several
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from srt_distill.data.files import ImageFolder
from srt_distill.data.video import VIDEO_EXTENSIONS, VideoFrames
from srt_distill.extractor import Extractor
from srt_distill.images import Normalization, read_image
from srt_distill.visualization.figures import Maps, fit_projections, noise_figure, pca_figure, resizing_figure
from srt_distill.visualization.panels import Picture, contact_sheet, resize_picture
from srt_distill.visualization.writers import write_gif, write_mp4, write_picture

NUM_FITTED_FRAMES = 4  # evenly spaced frames that a video's projection is fitted on
SHEET_COLUMNS, SHEET_WIDTH = 2, 960
GIF_WIDTH = 960  # pixels; a GIF at full size is too large to pass on


@dataclass(frozen=True)
class Column:
    """What one column of the figures shows.

    Attributes:
        extract: An extractor.
        normalization: What its images are normalised with: its own mean and std.
    """

    extract: Extractor
    normalization: Normalization


def visualize(
    columns: Mapping[str, Column],
    sources: Sequence[Path],
    output: Path,
    *,
    patch: int,
    layer_names: Sequence[str] = ("last layer",),
    single: str | None = None,
    ensemble: str | None = None,
    short_side: int = 480,
    every: int = 1,
    frames_per_second: float = 12.5,
    device: torch.device | None = None,
) -> list[Path]:
    """Draws the features of extractors side by side for every image, folder of images and video given.

    Args:
        columns: extractors with their normalisation, by the caption above their column, such as teacher, SRT and
            student. They may differ in resolution (SRT at pixel resolution makes the paper's figures) but not in
            channels.
        sources: image files, folders (all images below) and video files.
        output: folder for the figures; made.
        patch: p; images are resized to multiples of it.
        layer_names: one name a map that the extractors return, for the rows.
        single: caption of the column that is a single pass; with `ensemble`, adds the noise and resizing figures.
        ensemble: caption of the column taken for the signal, such as SRT.
        short_side: pixels that the shorter side is resized to, rounded to a multiple of the patch.
        every: of a video, one frame in this many.
        frames_per_second: speed of the written videos.
        device: where to run; the CPU by default.

    Returns:
        The files written, in order.

    Raises:
        FileNotFoundError: If a source does not exist, or a folder holds no image.
        ValueError: If there is no source, a name is not among the columns, or an extractor returns another number of
            maps than there are layer names.
        OSError: If no image can be read; one of several that cannot is named in a warning and passed over.
    """
    for name in (single, ensemble):
        if name is not None and name not in columns:
            raise ValueError(f"no column is named {name!r}; the names are {', '.join(columns)}")
    if not sources:
        raise ValueError("no image, folder or video given; name at least one")
    images, videos = _find_images(sources), _find_videos(sources, every)
    device = device or torch.device("cpu")

    def look_at(image: Image.Image) -> tuple[Picture, dict[str, Maps]]:
        picture = resize_to_patches(image, short_side, patch)
        pixels = to_tensor(picture).to(device)
        return picture, {name: _extract(column, pixels, layer_names) for name, column in columns.items()}

    written: list[Path] = []
    sheet: list[Picture] = []
    captions: list[str] = []
    unread: OSError | None = None
    for name, load in images.items():
        try:
            image = load()
        except OSError as error:
            warnings.warn(f"{error}; passed over", stacklevel=2)
            unread = error
            continue
        picture, maps = look_at(image)
        figures = {"pca": pca_figure(picture, maps, layer_names)}
        if single is not None and ensemble is not None:
            pair = maps[single], maps[ensemble]
            figures["noise"] = noise_figure(picture, *pair, ensemble, layer_names)
            if pair[0][0].shape != pair[1][0].shape:
                figures["resized"] = resizing_figure(picture, *pair, ensemble, layer_names)
        for kind, figure in figures.items():
            written.append(output / f"{name}-{kind}.png")
            write_picture(written[-1], figure)
        sheet.append(_to_width(figures["pca"], SHEET_WIDTH))
        captions.append(name)
    if unread and not written and not videos:
        raise unread
    if len(sheet) > 1:
        written.append(output / "contact-sheet.png")
        write_picture(written[-1], contact_sheet(sheet, captions, SHEET_COLUMNS, SHEET_WIDTH))

    for name, video in videos.items():
        fitted = np.unique(np.linspace(0, len(video) - 1, NUM_FITTED_FRAMES, dtype=int)).tolist()
        projections = fit_projections([look_at(video.load(i))[1] for i in fitted])
        figures = (
            pca_figure(*look_at(video.load(i)), layer_names=layer_names, projections=projections)
            for i in range(len(video))
        )
        written += write_animation(output / f"{name}-pca", figures, frames_per_second)
    return written


def write_animation(path: Path, frames: Iterator[Picture], frames_per_second: float) -> list[Path]:
    """Write pictures as an MP4 at full size and as a GIF of at most `GIF_WIDTH` pixels, drawing each only once.

    Args:
        path: destination without an ending.
        frames: RGB pictures of one size.
        frames_per_second: speed.

    Returns:
        The two files.

    Raises:
        ValueError: If there is no frame.
    """
    small: list[Picture] = []

    def passing() -> Iterator[Picture]:
        for frame in frames:
            small.append(_to_width(frame, min(GIF_WIDTH, frame.shape[1])))
            yield frame

    files = [path.with_name(path.name + ending) for ending in (".mp4", ".gif")]
    write_mp4(files[0], passing(), frames_per_second)
    write_gif(files[1], small, frames_per_second)
    return files


def resize_to_patches(image: Image.Image, short_side: int, patch: int) -> UInt8[np.ndarray, "H W 3"]:
    """Resizes an image so that both sides are multiples of the patch and its shape is nearly kept.

    Args:
        image: in mode RGB.
        short_side: pixels wanted of the shorter side.
        patch: p.

    Returns:
        The pixels.

    Raises:
        ValueError: If `short_side` is less than half a patch.
    """
    if round(short_side / patch) < 1:
        raise ValueError(f"short side of {short_side} pixels is less than a patch of {patch}; use at least {patch}")
    factor = short_side / min(image.size)
    width, height = (max(1, round(side * factor / patch)) * patch for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def to_tensor(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "1 3 H W"]:
    """Turn a picture into a batch of one."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]


def _extract(column: Column, pixels: UInt8[Tensor, "1 3 H W"], layer_names: Sequence[str]) -> Maps:
    with torch.inference_mode():
        maps = column.extract(column.normalization(pixels))
    if len(maps) != len(layer_names):
        raise ValueError(f"an extractor returned {len(maps)} maps for {len(layer_names)} layer names; name each map")
    return maps


def _find_images(sources: Sequence[Path]) -> dict[str, Callable[[], Image.Image]]:
    """Loaders of all images by the name of their figures."""
    found: dict[str, Callable[[], Image.Image]] = {}
    for source in sources:
        if source.is_dir():
            folder = ImageFolder(source)
            entries = [(Path(folder.name(i)), partial(folder.load, i)) for i in range(len(folder))]
        elif source.suffix.lower() in VIDEO_EXTENSIONS:
            continue
        elif source.is_file():
            entries = [(Path(source.name), partial(read_image, source, source.name))]
        else:
            raise FileNotFoundError(f"no image, folder or video at {source}; check the path")
        for path, load in entries:
            found[_free_name(str(path.with_suffix("")), found)] = load
    return found


def _find_videos(sources: Sequence[Path], every: int) -> dict[str, VideoFrames]:
    """Videos by the name of their figures."""
    found: dict[str, VideoFrames] = {}
    for source in sources:
        if not source.is_dir() and source.suffix.lower() in VIDEO_EXTENSIONS:
            found[_free_name(source.stem, found)] = VideoFrames(source, every)
    return found


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    """Return the name, numbered where another source already has it."""
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _to_width(picture: Picture, width: int) -> Picture:
    return resize_picture(picture, max(1, round(picture.shape[0] * width / picture.shape[1])), width)
