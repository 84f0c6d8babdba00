"""One frame of a video at a bounded cost; the only reader of videos.

A video is indexed once by reading its packets, without decoding: when each frame is shown, and which are key frames. A
frame is then reached from the last key frame before it, or from where the decoder stands if that is nearer. So a frame
costs at most a few groups of pictures, whatever the length of the video, and a pass in order decodes each frame once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import Int64
from PIL import Image

from srt_distill.images import DECODING_ERRORS

LOCAL_ONLY = {"protocol_whitelist": "file"}
"""A file that is a list of addresses is not followed to other machines."""

KEY_FRAMES_TRIED = 3
"""How many key frames back a frame is looked for: with an open group of pictures the nearest may lead past it."""

ROTATIONS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
"""How phones mark an upright recording: degrees counter-clockwise from the stored frame to the shown one."""


NO_VIDEOS = ("bintext", "xbin", "idf", "ansi")
"""Decoders that draw text and binary files by the ending of their names."""

PICTURE_BRANDS = ("heic", "heix", "heim", "heis", "mif1", "avif")
"""Pictures in the container of MP4."""

NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""Streams of a container that are not the video: covers, previews, stills."""


def holds_video(path: Path) -> bool | None:
    """Tell whether FFmpeg finds a video in a file; None if it cannot open the file."""
    try:
        with av.open(path, options=LOCAL_ONLY) as container:
            if container.format.name.endswith("_pipe") or container.format.name in ("image2", "gif", "apng"):
                return False
            if container.metadata.get("major_brand") in PICTURE_BRANDS:
                return False
            return find_video_stream(container) is not None
    except (FFmpegError, *DECODING_ERRORS):
        return None


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """The video of a container: the best by FFmpeg's reckoning, but never a cover picture, preview or text."""
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & NOT_SHOWN and stream.codec_context.name not in NO_VIDEOS
    ]
    best = container.streams.best("video")
    return best if best in videos else next(iter(videos), None)


class FrameTimes(NamedTuple):
    """When the frames of one video are shown, in ticks of its stream; ascending."""

    shown: Int64[np.ndarray, " frames"]
    key: Int64[np.ndarray, " key_frames"]
    start: int
    """The earliest time stamp of display or decoding, from which a seek reaches the beginning whichever of the two the
    container indexes."""


def read_frame_times(path: Path) -> FrameTimes:
    """Index a video by reading its packets; nothing is decoded.

    Raises:
        OSError: If the file cannot be opened, has no video stream or key frame, or does not say when frames are shown.
    """
    shown, key, start = [], [], 0
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError("it has no video stream")
            for packet in container.demux(container.streams.video[0]):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    raise ValueError("its frames have no time stamps; convert it to mp4 first")
                start = min(start, packet.pts, packet.pts if packet.dts is None else packet.dts)
                shown.append(packet.pts)
                if packet.is_keyframe:
                    key.append(packet.pts)
            if not key:
                raise ValueError("it holds no key frame")
    except (FFmpegError, *DECODING_ERRORS) as error:
        raise OSError(f"cannot read video {path.name}: {error}") from error
    return FrameTimes(np.unique(np.array(shown, np.int64)), np.unique(np.array(key, np.int64)), start)


class FrameReader:
    """One open video and where its decoder stands.

    Decodes and converts in one thread: threads of FFmpeg do not survive the fork of a loader process, which would wait
    for them forever; and the loader processes keep the cores busy anyway.

    Args:
        path: the video.
        times: its index.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path, times: FrameTimes) -> None:
        try:
            self._container = av.open(path)
        except (FFmpegError, *DECODING_ERRORS) as error:
            raise OSError(f"cannot open video {path.name}: {error}") from error
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self._times = times
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._stands_at: int | None = None

    def read(self, index: int) -> Image.Image:
        """Decode one frame, upright and in RGB.

        Args:
            index: its place in the order shown.

        Raises:
            OSError: If the decoder does not deliver it.
        """
        time = int(self._times.shown[index])
        try:
            frame = self._find(time)
        except (FFmpegError, *DECODING_ERRORS) as error:
            self._stands_at = None
            raise OSError(f"cannot decode frame {index}: {error}") from error
        if frame is None:
            raise OSError(f"cannot decode frame {index}: the decoder skips it")
        return to_upright_rgb(frame)

    def _find(self, time: int) -> av.VideoFrame | None:
        """The frame shown at `time`: decoding on if no key frame lies between, else from a key frame before it."""
        key = self._times.key
        before = key[: np.searchsorted(key, time, side="right")][-KEY_FRAMES_TRIED:]
        if self._stands_at is not None and max(before, default=-np.inf) <= self._stands_at < time:
            frame = self._advance(time)
            if frame is not None:
                return frame
        starts = [int(start) for start in before[::-1]]
        if len(starts) < KEY_FRAMES_TRIED:
            starts.append(self._times.start)
        for start in starts:
            self._container.seek(start, backward=True, stream=self._stream)
            self._frames = self._container.decode(self._stream)
            frame = self._advance(time)
            if frame is not None:
                return frame
        return None

    def _advance(self, time: int) -> av.VideoFrame | None:
        """Decode up to the frame shown at `time`; None if the decoder comes out beyond it or at the end."""
        self._stands_at = None
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= time:
                self._stands_at = frame.pts
                return frame if frame.pts == time else None
        return None


def to_upright_rgb(frame: av.VideoFrame) -> Image.Image:
    """The image a player shows: a recording made with the camera turned is turned back."""
    rotation = ROTATIONS.get(round(frame.rotation) % 360)
    image = frame.to_image(threads=1)
    return image if rotation is None else image.transpose(rotation)
