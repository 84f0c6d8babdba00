"""Pictures and videos to disk, complete or not at all.

Shape legend: H W pixels.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from PIL import Image

from srt_distill.files import replaced_file
from srt_distill.visualization.panels import Picture


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format of the path's ending.

    Args:
        path: destination, such as `.png` or `.jpg`.
        picture: RGB picture.
    """
    with replaced_file(path) as temporary:
        Image.fromarray(picture).save(temporary)


def write_gif(path: Path, frames: Iterable[Picture], frames_per_second: float = 12.5) -> None:
    """Write an endless GIF with one palette of 256 colours per frame.

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
    """Write an H.264 video that browsers play; an odd side loses its last pixel row or column (4:2:0 chroma).

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
    """Split off the first frame."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise ValueError(f"no frame for {path.name}; a video needs at least one")
    return first, rest
