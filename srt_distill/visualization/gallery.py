"""`srt-distill visualize`: what extractors see in images, folders of images and videos.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens (or pixels, where an extractor is that fine),
p patch side.

    <name>-pca.png       image | one column per extractor, one row and one PCA per layer     (paper, Figs. 2 and 6)
    <name>-noise.png     ‖SRT − single pass‖ and ‖resized − single pass‖ on one scale         (Fig. 4)
    <name>-resized.png   single pass, its features resized, SRT, under one PCA               (Fig. 5)
    <name>-confidence.png  how far each token is to be trusted, of its variance over shifts
    <name>-pca.mp4/.gif  the first of these over a video, one PCA for all its frames
    contact-sheet.png    all images at a glance, where there are several
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Real, Shaped
from PIL import Image
from torch import Tensor

from srt_distill.data.bands import Bands, as_colours, read_bands
from srt_distill.data.files import ImageFolder
from srt_distill.data.source import ImageSource
from srt_distill.data.video import VideoFrames, is_video
from srt_distill.extractor import Extractor
from srt_distill.images import Normalization, read_image
from srt_distill.visualization.figures import (
    Maps,
    confidence_figure,
    fit_projections,
    noise_figure,
    pca_figure,
    resizing_figure,
)
from srt_distill.visualization.panels import Picture, contact_sheet, resize_picture, to_picture
from srt_distill.visualization.writers import write_gif, write_mp4, write_picture

NUM_FITTED_FRAMES = 4  # evenly spaced frames that a video's projection is fitted on
SHEET_COLUMNS, SHEET_WIDTH = 2, 960
MAX_RATIO = 16  # of an image's sides; a panorama has 6
ROOM_FOR_ENDINGS = 40  # bytes that are added to the name of a figure, while it is written too
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
    variance: Column | None = None,
    short_side: int = 480,
    every: int = 1,
    frames_per_second: float = 12.5,
    white: float | None = None,
    device: torch.device | None = None,
) -> list[Path]:
    """Draw the features of extractors side by side for every image, folder of images and video given.

    Args:
        columns: extractors with their normalisation, by the caption above their column, such as teacher, SRT and
            student. They may differ in resolution (SRT at pixel resolution makes the paper's figures) but not in
            channels. Of images of other than three channels, those shown are named above them.
        sources: image files, folders (all images below) and video files.
        output: folder for the figures; made.
        patch: p; images are resized to multiples of it.
        layer_names: one name per map that the extractors return, for the rows.
        single: caption of the column that is a single pass; with `ensemble`, adds the noise and resizing figures.
        ensemble: caption of the column taken for the signal, such as SRT.
        variance: `srt_distill.ensemble.ShiftVariance`, of which every token's confidence is drawn.
        short_side: pixels that the shorter side is resized to, rounded to a multiple of the patch.
        every: of a video, one frame in this many.
        frames_per_second: speed of the written videos.
        white: of images of other than three channels, the value that stands for 1; see `srt_distill.data.bands`.
        device: where to run; the CPU by default.

    Returns:
        The files written, in order.

    Raises:
        FileNotFoundError: If a source does not exist, or a folder holds no image.
        ValueError: If there is no source, a name is not among the columns, columns take different channels, or an
            extractor returns another number of maps than there are layer names.
        OSError: If nothing can be drawn; one of several images or frames that cannot be read, or has one side more than
            16 times the other, is named in a warning and passed over.
    """
    for name in (single, ensemble):
        if name is not None and name not in columns:
            raise ValueError(f"no column is named {name!r}; the names are {', '.join(columns)}")
    if not sources:
        raise ValueError("no image, folder or video given; name at least one")
    require_short_side(short_side, patch)
    names = FigureNames(output)
    channels = {name: len(column.normalization.mean) for name, column in columns.items()}
    if len(set(channels.values())) > 1:
        raise ValueError(f"columns take images of different channels ({channels}); draw them apart")
    num_channels = next(iter(channels.values()), 3)
    images, videos = find_sources(sources, every, names, num_channels, white)
    if videos and num_channels != 3:
        raise ValueError(f"videos have 3 channels, the columns take {num_channels}; give images, or other models")
    if white is not None and num_channels == 3:
        raise ValueError(f"white={white} is for images of other than 3 channels; leave it out")
    caption = _name_image(num_channels)
    device = device or torch.device("cpu")
    failures: list[OSError] = []

    def load(source: ImageSource, index: int, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """Read an image at the size drawn; None, with a warning, where it cannot be."""
        try:
            return resize_to_patches(source.load(index), short_side, patch, source.name(index), size)
        except OSError as error:
            warnings.warn(f"{printable(str(error))}; passed over", stacklevel=3)
            failures.append(error)
            return None

    def look_at(image: np.ndarray) -> dict[str, Maps]:
        pixels = to_tensor(image).to(device)
        return {name: _extract(column, pixels, layer_names) for name, column in columns.items()}

    written: list[Path] = []
    sheet: dict[str, Picture] = {}
    for name, (source, index) in images.items():
        image = load(source, index)
        if image is None:
            continue
        maps, picture = look_at(image), colours(image)
        figures = {"pca": pca_figure(picture, maps, layer_names, image_name=caption)}
        if single is not None and ensemble is not None:
            pair = maps[single], maps[ensemble]
            figures["noise"] = noise_figure(picture, *pair, ensemble, layer_names, caption)
            if pair[0][0].shape != pair[1][0].shape:
                figures["resized"] = resizing_figure(picture, *pair, ensemble, layer_names, caption)
        if variance is not None:
            variances = _extract(variance, to_tensor(image).to(device), layer_names)
            figures["confidence"] = confidence_figure(picture, variances, layer_names, caption)
        for kind, figure in figures.items():
            written.append(output / f"{name}-{kind}.png")
            write_picture(written[-1], figure)
        sheet[name] = _to_width(figures["pca"], SHEET_WIDTH)
    if len(sheet) > 1:
        written.append(output / "contact-sheet.png")
        write_picture(written[-1], contact_sheet([*sheet.values()], [*sheet], SHEET_COLUMNS, SHEET_WIDTH))

    for name, video in videos.items():
        fitted = np.unique(np.linspace(0, len(video) - 1, NUM_FITTED_FRAMES, dtype=int)).tolist()
        # where none of these can be read, any other does
        order = chain(fitted, (i for i in range(len(video)) if i not in fitted))
        seen: dict[int, np.ndarray] = {}
        for i in order:
            if i not in fitted and seen:
                break
            if (picture := load(video, i)) is not None:
                seen[i] = picture
        if not seen:
            continue
        projections = fit_projections([look_at(picture) for picture in seen.values()])
        height, width = next(iter(seen.values())).shape[:2]
        figures = (
            pca_figure(picture, look_at(picture), layer_names=layer_names, projections=projections)
            for i in range(len(video))
            if (picture := load(video, i, (height, width))) is not None
        )
        written += write_animation(output / f"{name}-pca", figures, frames_per_second)
    if failures and not written:
        raise failures[0]
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


def require_short_side(short_side: int, patch: int) -> None:
    """Refuse a shorter side that is less than half a patch, and so would have no token.

    Raises:
        ValueError: If it is.
    """
    if round(short_side / patch) < 1:
        raise ValueError(f"short side of {short_side} pixels is less than a patch of {patch}; use at least {patch}")


def resize_to_patches(
    image: Image.Image | Bands, short_side: int, patch: int, name: str = "image", size: tuple[int, int] | None = None
) -> Real[np.ndarray, "H W K"]:
    """Resize an image so that both sides are multiples of the patch and its shape is nearly kept.

    Args:
        image: in mode RGB, or bands.
        short_side: pixels wanted of the shorter side.
        patch: p.
        name: what an error calls it.
        size: height and width to resize to instead, so that all frames of a video have one size.

    Returns:
        The pixels.

    Raises:
        ValueError: If `short_side` is less than half a patch.
        OSError: If the longer side is more than `MAX_RATIO` times the shorter one.
    """
    require_short_side(short_side, patch)
    if max(image.size) > MAX_RATIO * min(image.size):
        raise OSError(
            f"image {name} is {image.width}x{image.height} pixels, one side more than {MAX_RATIO} times the other; "
            "cut it into parts to see it"
        )
    factor = short_side / min(image.size)
    width, height = (max(1, round(side * factor / patch)) * patch for side in image.size)
    height, width = (height, width) if size is None else size
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def to_tensor(image: Real[np.ndarray, "H W K"]) -> Real[Tensor, "1 K H W"]:
    """Turn the pixels of an image into a batch of one."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None]


def colours(image: Real[np.ndarray, "H W K"]) -> Shaped[np.ndarray, "H W 3"]:
    """Show an image of any number of channels: see `srt_distill.data.bands.as_colours`."""
    return (
        image if image.dtype == np.uint8 and image.shape[2] == 3 else to_picture(as_colours(to_tensor(image))[0] / 255)
    )


def _name_image(num_channels: int) -> str:
    """Caption the column of images, with the channels that are shown where there are others."""
    if num_channels in (1, 3):
        return "image"
    return f"image (channel{'s 0, 1, 2' if num_channels > 3 else ' 0'} of {num_channels})"


def _extract(column: Column, pixels: Real[Tensor, "1 K H W"], layer_names: Sequence[str]) -> Maps:
    with torch.inference_mode():
        maps = column.extract(column.normalization(pixels))
    if len(maps) != len(layer_names):
        raise ValueError(f"an extractor returned {len(maps)} maps for {len(layer_names)} layer names; name each map")
    return maps


def find_sources(
    sources: Sequence[Path], every: int, names: "FigureNames", num_channels: int = 3, white: float | None = None
) -> tuple[dict[str, tuple[ImageSource, int]], dict[str, ImageSource]]:
    """Find all images, as a source and an index in it, and all videos, by the names of their figures.

    What a file is, its content says.

    Raises:
        FileNotFoundError: If there is nothing at a path, or a folder holds no image.
    """
    images: dict[str, tuple[ImageSource, int]] = {}
    videos: dict[str, ImageSource] = {}
    for path in sources:
        if path.is_dir():
            folder = ImageFolder(path, num_channels=None if num_channels == 3 else num_channels, white=white)
            images |= {names.take(Path(folder.name(i))): (folder, i) for i in range(len(folder))}
        elif not path.exists():
            raise FileNotFoundError(f"no image, folder or video at {printable(str(path))}; check the path")
        elif _is_video(path):
            videos[names.take(Path(path.name))] = VideoFrames(path, every)
        else:
            images[names.take(Path(path.name))] = (OneImage(path, num_channels, white), 0)
    return images, videos


class OneImage(ImageSource):
    """A single image file.

    Args:
        path: the file.
        num_channels: 3 for RGB made of whatever it is, others for as many bands.
        white: of bands, the value that stands for 1.
    """

    def __init__(self, path: Path, num_channels: int = 3, white: float | None = None) -> None:
        self._path, self._num_channels, self._white = path, num_channels, white

    def __len__(self) -> int:
        return 1

    @property
    def num_channels(self) -> int:
        """Channels of the image."""
        return self._num_channels

    def load(self, index: int) -> Image.Image | Bands:
        """Decode the image, upright: in RGB, or all its bands."""
        if self._num_channels == 3:
            return read_image(self._path, self._path.name)
        return read_bands(self._path, self._num_channels, self._path.name, white=self._white)

    def name(self, index: int) -> str:
        """Return the file's name."""
        return self._path.name


class FigureNames:
    """Names for figures, one per source: of its file, free, printable, and no longer than the file system allows.

    Args:
        folder: where the figures go; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._taken: set[str] = set()
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        self._most_bytes = os.pathconf(there, "PC_NAME_MAX") - ROOM_FOR_ENDINGS

    def take(self, path: Path) -> str:
        """Make the name of a file's figures: its own, cut and numbered where need be, and never given again."""
        stem = printable(str(path.with_suffix("")))
        parent, _, last = stem.rpartition("/")
        number = 1
        while True:
            ending = f"-{number}" if number > 1 else ""
            cut = last.encode()[: self._most_bytes - len(ending)].decode(errors="ignore") + ending
            name = f"{parent}/{cut}" if parent else cut
            if name not in self._taken:
                self._taken.add(name)
                return name
            number += 1


def printable(name: str) -> str:
    """Escape what no terminal or font can show: bytes of a file name that are not UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _is_video(path: Path) -> bool:
    try:
        return is_video(path)
    except OSError:
        return False  # an unreadable file is reported as an unreadable image


def _to_width(picture: Picture, width: int) -> Picture:
    return resize_picture(picture, max(1, round(picture.shape[0] * width / picture.shape[1])), width)
