"""The frames of video files as images."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from srt_distill.data.kinds import FOREIGN_ENDINGS, PICTURE_ENDINGS, by_ending, is_picture, pick_alike
from srt_distill.data.listing import find_files, natural_order
from srt_distill.data.source import ImageSource

VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf"),
)
"""What a file that nothing can open is taken for a video by, in any case; all others are told by what they hold."""


def is_video(path: Path) -> bool:
    """Tell whether a file is a video, by what it holds; only its beginning is read.

    A picture is none, be it animated, and whatever its name ends in; nor is sound with a cover picture. The ending
    decides only where FFmpeg cannot open the file, so that a damaged video is still spoken of as a video.

    Raises:
        OSError: If the file cannot be read.
    """
    from srt_distill.data.frame_reader import holds_video

    if not path.is_file() or is_picture(path):
        return False
    held = holds_video(path)
    return path.suffix.lower() in VIDEO_EXTENSIONS if held is None else held


def find_videos(root: Path) -> list[str]:
    """Find all videos in a folder and below it; paths relative to it, in natural order.

    What is a video, the content says; of many files of one ending that is no video's, a few are looked into.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
        PermissionError: If it may not be listed.
    """
    videos: list[str] = []
    for kind, names in by_ending(find_files(root, ("",), recursive=True)).items():
        if kind in VIDEO_EXTENSIONS:
            videos += [name for name in names if is_video(root / name)]
        elif kind not in PICTURE_ENDINGS | FOREIGN_ENDINGS:
            videos += pick_alike(names, lambda name: is_video(root / name))
    return natural_order(videos)


class VideoFrames(ImageSource):
    """The frames of a video file, or of all video files in a folder and below it, as a player shows them.

    Any file that FFmpeg reads is a video, whatever its ending. Frames come in the order shown, turned and mirrored as
    the file says; where the pixel aspect is not square they are stretched to how they are meant to be seen. Of several
    streams the best is taken, never a cover picture. A frame that cannot be decoded costs that frame alone; but as in a
    player, those that lean on it may show its traces.

    Nothing is extracted to disk. In random order a frame costs half a group of pictures on average: where groups are
    long (hundreds of frames, as in streams from the web), extract the frames once and use `ImageFolder`. Building the
    index reads each file through once without decoding, and decodes those once that do not store the order of their
    frames (AVI, ASF and bare streams with frames that lean on later ones). It takes 8 bytes per frame and 24 per key
    frame. A file that cannot be indexed stands for one unreadable image.

    Args:
        path: the file, or the folder.
        every: keep one frame in this many, counted in each video.

    Raises:
        FileNotFoundError: If the path does not exist or the folder holds no video.
        ValueError: If `every` is below 1.
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        from srt_distill.data.frame_reader import FrameIndex, FrameReader, index_frames

        path = Path(path)
        if every < 1:
            raise ValueError(f"every={every} must be at least 1; 1 keeps all frames")
        self._folder = path.parent if path.is_file() else path
        self._files = [path.name] if path.is_file() else find_videos(path)
        if not self._files:
            raise FileNotFoundError(
                f"no video in {path} (looked here and in all folders below, into files of any ending); check the path"
            )
        self._every = every
        self._indices: list[FrameIndex | str] = []
        counts = []
        for file in self._files:
            try:
                frames = index_frames(self._folder / file)
                self._indices.append(frames)
                counts.append(-(-len(frames.shown) // every))
            except OSError as error:
                self._indices.append(str(error))
                counts.append(1)
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._open: FrameReader | None = None
        self._open_in = (-1, -1)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def load(self, index: int) -> Image.Image:
        """Decode the frame: in RGB, as a player shows it."""
        from srt_distill.data.frame_reader import FrameReader

        video, frame = self._locate(index)
        frames = self._indices[video]
        if isinstance(frames, str):
            raise OSError(frames)
        wanted = (os.getpid(), video)  # a forked process must open its own: they would share one file position
        if self._open is None or self._open_in != wanted:
            self._open, self._open_in = FrameReader(self._folder / self._files[video], frames), wanted
        try:
            return self._open.read(frame)
        except OSError as error:
            raise OSError(f"{self._files[video]}: {error}") from error

    def name(self, index: int) -> str:
        """Name the file, and the number of the frame in it (from 0, before `every`)."""
        video, frame = self._locate(index)
        return f"{self._files[video]}#{frame}"

    def _locate(self, index: int) -> tuple[int, int]:
        """Find which video it is in, and which of its frames it is."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} is out of range: the source has {len(self)}")
        video = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[video - 1]) if video else 0
        return video, (index - first) * self._every

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}
