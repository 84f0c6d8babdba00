"""One frame of a video at a bounded cost; the only reader of videos.

    holds_video(path)         whether FFmpeg finds a video in a file
    index_frames(path)        the frames of a video in the order shown, and its key frames
    FrameReader(path, index)  one open video, from which any frame is read
    to_shown_rgb(frame, …)    pixels as a player shows them: upright, square

A video is indexed once by reading its packets: when each frame is shown, and which are key frames. A frame is then
reached from the last key frame before it, or from where the decoder stands if that is nearer. So a frame costs at most
a few groups of pictures, whatever the length of the video, and a pass in order decodes each frame once.

Packets are told apart by counting them from a key frame that is known by its content, not by their time stamps: these
are guessed where a container stores none, and guessed otherwise after a seek. Where they do not even say in which order
frames are shown, as in AVI and ASF with frames that lean on later ones, the index decodes the video once: the order in
which the decoder gives frames out is the order shown. A container in which no seek finds a key frame (bare streams,
program streams of tiny frames) is decoded from its beginning.
"""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
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

from srt_distill.images import MAX_PIXELS

LOCAL_ONLY = {"protocol_whitelist": "file"}
"""A file that is a list of addresses is not followed to other machines."""

KEY_FRAMES_TRIED = 3
"""How many key frames back a frame is looked for: with an open group of pictures the nearest may lead past it."""

NOT_WORTH_A_SEEK = 4
"""Frames before a key frame from which the decoder goes on to it: those that lean on it come out before it."""

MAX_DELAY = 64
"""Packets after a frame's own by which a decoder has given it out, or does not: four times what H.264 allows."""

UNSTAMPED = -(2**63)
"""In place of a time stamp where there is none, as in FFmpeg."""

MAX_PIXEL_ASPECT = 4.0
"""Pixels are at most this many times wider than high, or higher than wide; beyond, a file's word is not taken."""

NO_VIDEOS = ("bintext", "xbin", "idf", "ansi")
"""Decoders that draw text and binary files by the ending of their names."""

PICTURE_BRANDS = ("heic", "heix", "heim", "heis", "mif1", "avif")
"""Pictures in the container of MP4."""

NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""Streams of a container that are not the video: covers, previews, stills."""


@contextmanager
def undecodable_as_os_error(what: str) -> Iterator[None]:
    """Turn whatever FFmpeg or PyAV raises on bad data into an `OSError`; a lack of memory passes through.

    Args:
        what: what the message says cannot be done.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(f"cannot {what}: {error}") from error


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video, closed when the block ends.

    Raises:
        ValueError: If it has no video.
    """
    with av.open(path, options=LOCAL_ONLY) as container:
        yield container, _prepare_stream(container)


def _prepare_stream(container: InputContainer) -> VideoStream:
    stream = find_video_stream(container)
    if stream is None:
        raise ValueError("it has no video stream")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.codec_context.thread_count = 1
    return stream


def holds_video(path: Path) -> bool | None:
    """Tell whether FFmpeg finds a video in a file; None if it cannot open the file."""
    try:
        with av.open(path, options=LOCAL_ONLY) as container:
            if container.format.name.endswith("_pipe") or container.format.name in ("image2", "gif", "apng"):
                return False
            if container.metadata.get("major_brand") in PICTURE_BRANDS:
                return False
            return find_video_stream(container) is not None
    except (FFmpegError, OSError, ValueError):
        return None


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """Choose the video of a container: the best by FFmpeg's reckoning, never a cover picture, preview or text.

    Nor one of a format that nothing here decodes, such as a damaged file may claim: that has no codec context.
    """
    videos = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and not stream.disposition & NOT_SHOWN
        and stream.codec_context.name not in NO_VIDEOS
    ]
    best = container.streams.best("video")
    return next((stream for stream in videos if stream is best), next(iter(videos), None))


class FrameIndex(NamedTuple):
    """The frames and key frames of one video, by the numbers of their packets in the file's order."""

    shown: Int64[np.ndarray, " frames"]
    """Packets that hold a frame, in the order shown."""
    num_packets: int
    keys: Int64[np.ndarray, " key_frames"]
    """Packets at which decoding can begin, ascending."""
    key_stamps: Int64[np.ndarray, " key_frames"]
    """Where a seek looks for these, in ticks of the stream; `UNSTAMPED` where the file does not say."""
    key_sums: Int64[np.ndarray, " key_frames"]
    """CRC-32 of their content, by which they are known again after a seek."""


def index_frames(path: Path) -> FrameIndex:
    """Index a video by reading its packets; only where these do not tell the order of frames it is decoded once.

    Raises:
        OSError: If the file cannot be opened, or has no video stream, frame or key frame.
    """
    shown: list[int] = []
    numbers: list[int] = []
    keys: list[tuple[int, int, int]] = []
    num_packets = 0
    with undecodable_as_os_error(f"read video {path.name}"):
        with open_video(path) as (container, stream):
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_keyframe:
                    keys.append((num_packets, _stamp(packet), zlib.crc32(packet)))
                if not packet.is_discard:
                    shown.append(UNSTAMPED if packet.pts is None else packet.pts)
                    numbers.append(num_packets)
                num_packets += 1
            reorders = stream.codec_context.reorder_depth > 0
        if not shown:
            raise ValueError("it holds no frame")
        if not keys:
            raise ValueError("it holds no key frame")
        stamps = np.array(shown, np.int64)
        # Frames that lean on later ones are stored out of order: stamps that ascend cannot be times of display.
        if UNSTAMPED in shown or (reorders and len(shown) > 1 and np.all(np.diff(stamps) > 0)):
            order = _decode_order(path)
        else:
            order = np.array(numbers, np.int64)[np.argsort(stamps, kind="stable")]
    return FrameIndex(order, num_packets, *np.array(keys, np.int64).T.copy())


def _stamp(packet: av.Packet) -> int:
    stamp = packet.dts if packet.pts is None else packet.pts
    return UNSTAMPED if stamp is None else stamp


def _decode_order(path: Path) -> Int64[np.ndarray, " frames"]:
    """Numbers of the packets that hold a video's frames, in the order in which the decoder gives these out."""
    with open_video(path) as (container, stream):
        decoded = decode_numbered(container.demux(stream), 0)
        given = [frame.pts for _, frame in decoded if frame is not None and frame.pts is not None]
    if not given:
        raise ValueError("no frame of it can be decoded")
    return np.array(list(dict.fromkeys(given)), np.int64)


def decode_numbered(packets: Iterable[av.Packet], first: int) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Decode packets. One that cannot be decoded costs what it holds.

    Args:
        packets: in the file's order, from a key frame on.
        first: number of the first.

    Yields:
        For each packet its number with each frame that comes out as it goes in, or with None. The `pts` of a frame is
        the number of the packet that held it.
    """
    number = first - 1
    for packet in packets:
        if packet.size:
            number += 1
            packet.pts = number
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = []
        for frame in frames or (None,):
            yield number, frame  # type: ignore[misc]


class FrameReader:
    """One open video and where its decoder stands.

    Decodes and converts in one thread: threads of FFmpeg do not survive the fork of a loader process, which would wait
    for them forever; and the loader processes keep the cores busy anyway.

    Args:
        path: the video.
        index: its index.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self._path = path
        self._index = index
        self._place_of = np.full(index.num_packets, -1, np.int64)
        self._place_of[index.shown] = np.arange(len(index.shown))
        self._decoded: Iterator[tuple[int, av.VideoFrame | None]] = iter(())
        self._stands_at: int | None = None
        self._open()

    def read(self, index: int) -> Image.Image:
        """Decode one frame: in RGB, upright, its pixels square.

        Args:
            index: its place in the order shown.

        Raises:
            OSError: If the decoder does not deliver it.
        """
        with undecodable_as_os_error(f"decode frame {index}"):
            frame = self._find(index)
            if frame is None:
                raise ValueError("the decoder skips it")
            return to_shown_rgb(frame, self._stream.sample_aspect_ratio)

    def _open(self) -> None:
        with undecodable_as_os_error(f"open video {self._path.name}"):
            self._container = av.open(self._path, options=LOCAL_ONLY)
            self._stream = _prepare_stream(self._container)

    def _find(self, place: int) -> av.VideoFrame | None:
        """Decode on to a frame if no key frame lies between, else from a key frame before it."""
        stands_at, self._stands_at = self._stands_at, None  # what fails leaves the decoder nowhere
        keys = np.flatnonzero(self._index.keys <= self._index.shown[place])
        keys = keys[self._place_of[self._index.keys[keys]] <= place][-KEY_FRAMES_TRIED:]
        nearest = self._place_of[self._index.keys[keys[-1]]] if len(keys) else 0
        if stands_at is not None and nearest - NOT_WORTH_A_SEEK <= stands_at < place:
            frame = self._advance(place)
            if frame is not None:
                return frame
        reached = False
        for key in keys[::-1]:
            packets = self._seek(int(key), place)
            if packets is not None:
                reached = True
                self._decoded = decode_numbered(*packets)
                frame = self._advance(place)
                if frame is not None:
                    return frame
        if reached and len(keys) == KEY_FRAMES_TRIED:
            return None
        self._container.close()
        self._open()
        self._decoded = decode_numbered(self._container.demux(self._stream), 0)
        return self._advance(place)

    def _seek(self, key: int, place: int) -> tuple[Iterable[av.Packet], int] | None:
        """Packets from a known key frame on, and its number; None if a seek leads to none that is shown by `place`."""
        stamp = int(self._index.key_stamps[key])
        if stamp == UNSTAMPED:
            return None
        try:
            self._container.seek(stamp, backward=True, stream=self._stream)
        except FFmpegError:
            return None
        packets = self._container.demux(self._stream)
        for packet in packets:
            if packet.size and packet.is_keyframe:
                number = self._recognise(packet)
                if number is not None:
                    return (chain([packet], packets), number) if self._place_of[number] <= place else None
        return None

    def _recognise(self, packet: av.Packet) -> int | None:
        """Tell which key frame a packet is: by its content, and where others have the same also by its time stamp."""
        same = np.flatnonzero(self._index.key_sums == zlib.crc32(packet))
        if len(same) > 1:
            same = same[self._index.key_stamps[same] == _stamp(packet)]
        return int(self._index.keys[same[0]]) if len(same) == 1 else None

    def _advance(self, place: int) -> av.VideoFrame | None:
        """Decode up to a frame; None if the decoder comes out beyond it or at the end."""
        last = int(self._index.shown[place]) + MAX_DELAY
        for number, frame in self._decoded:
            reached = -1 if frame is None or frame.pts is None else int(self._place_of[frame.pts])
            if reached >= place:
                self._stands_at = reached
                return frame if reached == place else None
            if number > last:
                return None
        return None


def to_shown_rgb(frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Image.Image:
    """Turn a frame into the image a player shows.

    Pixels that are not square are made so by enlarging the shorter side (bicubic). A recording made with the camera
    turned is turned back, one made in a mirror is mirrored, as the file's display matrix says (to whole quarters).

    Args:
        frame: as decoded.
        pixel_aspect: width of its pixels over their height; None where the file does not say.
    """
    if frame.width * frame.height > MAX_PIXELS:
        raise ValueError(f"{frame.width}x{frame.height} pixels are more than {MAX_PIXELS}")
    image = frame.to_image(threads=1)
    aspect = float(pixel_aspect or 1)
    if aspect != 1 and 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
        size = round(image.width * max(1, aspect)), round(image.height * max(1, 1 / aspect))
        image = image.resize(size, Image.Resampling.BICUBIC)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    for operation in () if matrix is None else read_display_matrix(bytes(matrix)):
        image = image.transpose(operation)
    return image


def read_display_matrix(matrix: bytes) -> list[Image.Transpose]:
    """Read how a stored frame is turned and mirrored to be shown.

    Args:
        matrix: nine whole numbers a, b, u, c, d, v, x, y, w of 32 bits in this machine's order, as FFmpeg has them (ISO
            14496-12, 6.2.2): a stored point (p, q), q downwards, is shown at (a p + c q + x, b p + d q + y).

    Returns:
        What is to be done with the stored frame, in order; nothing if it is upright.
    """
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if swaps else (a, d)
    operations = [Image.Transpose.TRANSPOSE] if swaps else []
    if across < 0:
        operations.append(Image.Transpose.FLIP_LEFT_RIGHT)
    if down < 0:
        operations.append(Image.Transpose.FLIP_TOP_BOTTOM)
    return operations
