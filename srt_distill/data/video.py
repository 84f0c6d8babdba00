"""The frames of video files as images."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from srt_distill.data.listing import find_files
from srt_distill.data.source import ImageSource

VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf"),
)
"""What a file that nothing can open is taken for a video by, in any case; all others are told by what they hold."""


def is_video(path: Path) -> bool:
    """Tell whether a file is a video, by what it holds; only its beginning is read.

    A picture is none, be it animated, and whatever its name ends in; nor is sound with a cover picture. The ending
    decides only where nothing can open the file, so that a damaged video is still spoken of as a video.
    """
    from srt_distill.data.frame_reader import holds_video

    if not path.is_file():
        return False
    if is_picture(path):
        return False
    held = holds_video(path)
    return path.suffix.lower() in VIDEO_EXTENSIONS if held is None else held


def is_picture(path: Path) -> bool:
    """Tell whether Pillow knows the file by its beginning."""
    try:
        with Image.open(path) as image:
            return image.format != "MPEG"  # a video that Pillow can name but not read
    except Image.DecompressionBombError:
        return True
    except MemoryError:
        raise
    except Exception:  # its plug-ins raise what they like on what is not theirs
        return False


class VideoFrames(ImageSource):
    """The frames of a video file, or of all video files in a folder and below it.

    Nothing is extracted to disk. In random order a frame costs half a group of pictures on average: where groups are
    long (hundreds of frames, as in streams from the web), extract the frames once and use `ImageFolder`. Building the
    index reads each file through once without decoding; it takes at most 16 bytes a frame. A file that cannot be
    indexed stands for one unreadable image.

    Args:
        path: the file, or the folder.
        every: keep one frame in this many, counted in each video.

    Raises:
        FileNotFoundError: If the path does not exist or the folder holds no video.
        ValueError: If `every` is below 1.
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        from srt_distill.data.frame_reader import FrameReader, FrameTimes, read_frame_times

        path = Path(path)
        if every < 1:
            raise ValueError(f"every={every} must be at least 1; 1 keeps all frames")
        self._folder = path.parent if path.is_file() else path
        self._files = [path.name] if path.is_file() else find_files(path, VIDEO_EXTENSIONS, recursive=True)
        if not self._files:
            raise FileNotFoundError(
                f"no video in {path} (looked for {', '.join(VIDEO_EXTENSIONS)}, here and in all folders below); "
                "check the path"
            )
        self._every = every
        self._times: list[FrameTimes | str] = []
        counts = []
        for file in self._files:
            try:
                times = read_frame_times(self._folder / file)
                self._times.append(times)
                counts.append(-(-len(times.shown) // every))
            except OSError as error:
                self._times.append(str(error))
                counts.append(1)
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._open: FrameReader | None = None
        self._open_in = (-1, -1)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def load(self, index: int) -> Image.Image:
        """The frame, in RGB, upright where the file says how the camera was held."""
        from srt_distill.data.frame_reader import FrameReader

        video, frame = self._locate(index)
        times = self._times[video]
        if isinstance(times, str):
            raise OSError(times)
        wanted = (os.getpid(), video)  # a forked process must open its own: they would share one file position
        if self._open is None or self._open_in != wanted:
            self._open, self._open_in = FrameReader(self._folder / self._files[video], times), wanted
        try:
            return self._open.read(frame)
        except OSError as error:
            raise OSError(f"{self._files[video]}: {error}") from error

    def name(self, index: int) -> str:
        """The file, and the number of the frame in it (from 0, before `every`)."""
        video, frame = self._locate(index)
        return f"{self._files[video]}#{frame}"

    def _locate(self, index: int) -> tuple[int, int]:
        """Which video, and which of its frames."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} is out of range: the source has {len(self)}")
        video = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[video - 1]) if video else 0
        return video, (index - first) * self._every

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}
