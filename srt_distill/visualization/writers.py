"""Pictures and videos to disk, complete or not at all.

Shape legend: N frames, H W pixels.

Each file is written beside its destination and moved over it, so a full disk or a kill leaves an older file intact.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from PIL import Image

from srt_distill.visualization.panels import Picture


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well and vanishes when it does not.

    Args:
        path: destination; its folder is made.

    Yields:
        Path to write to, with the destination's ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_picture(path: Path, picture: Picture) -> None:
    """Writes a picture in the format of the path's ending.

    Args:
        path: destination, such as `.png` or `.jpg`.
        picture: RGB picture.
    """
    with replaced_file(path) as temporary:
        Image.fromarray(picture).save(temporary)


def write_gif(path: Path, frames: Iterable[Picture], frames_per_second: float = 12.5) -> None:
    """Writes an endless GIF with one palette of 256 colours a frame.

    Args:
        path: destination.
        frames: RGB pictures of one size.
        frames_per_second: speed; GIF counts hundredths of a second.

    Raises:
        ValueError: If there is no frame.
    """
    first, rest = _first(frames, path)
    with replaced_file(path) as temporary:
        Image.fromarray(first).save(
            temporary,
            save_all=True,
            append_images=(Image.fromarray(frame) for frame in rest),
            duration=round(1000 / frames_per_second),
            loop=0,
        )


def write_mp4(path: Path, frames: Iterable[Picture], frames_per_second: float = 25.0) -> None:
    """Writes an H.264 video that browsers play; an odd side loses its last pixel row or column (4:2:0 chroma).

    Args:
        path: destination.
        frames: RGB pictures of one size.
        frames_per_second: speed.

    Raises:
        ValueError: If there is no frame, or one differs in size from the first.
    """
    first, rest = _first(frames, path)
    height, width = (side - side % 2 for side in first.shape[:2])
    with replaced_file(path) as temporary, av.open(str(temporary), "w", options={"movflags": "faststart"}) as video:
        stream = video.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "medium"}
        for frame in chain([first], rest):
            if frame.shape != first.shape:
                raise ValueError(
                    f"frame of shape {frame.shape} after one of {first.shape}; a video needs a single size"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            video.mux(stream.encode(picture))
        video.mux(stream.encode())


def _first(frames: Iterable[Picture], path: Path) -> tuple[Picture, Iterator[Picture]]:
    """Splits off the first frame."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise ValueError(f"no frame for {path.name}; a video needs at least one")
    return first, rest


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
