"""Pictures and videos whose pixels tell where they come from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from unittest import mock

import av
import numpy as np
from PIL import Image


def picture(number: int, height: int = 40, width: int = 56) -> Image.Image:
    """Red counts columns, green counts rows, blue is the picture's number."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    pixels[..., 2] = number
    return Image.fromarray(pixels)


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """A folder that may not be listed, for root too."""
    scandir = os.scandir

    def refuse(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with mock.patch("os.scandir", refuse):
        yield


def write_video(
    path: Path,
    num_frames: int,
    codec: str = "mpeg4",
    turned: int = 0,
    container: str | None = None,
    pixel_aspect: Fraction | None = None,
    **options: str,
) -> None:
    """Frames of one grey each, 6 levels apart, in groups of 12, with a brighter corner at the top left."""
    with av.open(path, "w", container) as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = (
            64,
            48,
            ("rgb24" if codec == "png" else "yuv420p"),
            12,
        )
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.bit_rate = 4_000_000
        stream.codec_context.thread_count = 1  # its threads would be missed by loader processes forked later
        if turned:
            stream.set_display_rotation(turned)
        for number in range(num_frames):
            pixels = np.full((48, 64, 3), 6 * number, np.uint8)
            pixels[:24, :32] += 12  # a brighter corner tells which way is up
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
