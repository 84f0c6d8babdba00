"""From what people point at to a source of images: what is there says what it is.

recognise_images(given)     paths, names and addresses to one source, and how a config writes it
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srt_distill.data.files import DavisFrames, FileList, ImageFolder
from srt_distill.data.hugging_face import TABLES, HuggingFaceImages
from srt_distill.data.kinds import PICTURE_ENDINGS, is_picture
from srt_distill.data.listing import find_files
from srt_distill.data.mixture import Mixture
from srt_distill.data.shards import TarShards
from srt_distill.data.source import ImageSource
from srt_distill.data.video import VIDEO_EXTENSIONS, VideoFrames, is_video

SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz")
SAVED_MARKS = ("dataset_dict.json", "state.json")
"""Files that the `datasets` library leaves in a folder that it saved."""

ACCEPTED = (
    "a folder of images, of videos, of tar shards or in DAVIS' layout; a text file with a path per line; videos; a "
    "data set that `datasets` saved, a Parquet table or owner/name on the hub; an address of tar shards"
)

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Recognised:
    """A source, with what rebuilds it.

    Attributes:
        source: The images.
        kind: What they are, in words.
        class_path: Import path of the source's class.
        init_args: Its arguments, plain data, local paths absolute.
    """

    source: ImageSource
    kind: str
    class_path: str
    init_args: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """Give the source as a run's YAML writes it."""
        return {"class_path": self.class_path, "init_args": self.init_args}


def recognise_images(given: Sequence[str], num_channels: int = 3, white: float | None = None) -> Recognised:
    """Make a source of what was pointed at; of several things, their images one after the other.

    Args:
        given: Paths, names of data sets or addresses of shards.
        num_channels: Channels of every image; other than 3 only of folders and lists of image files.
        white: Of images of other than 3 channels, the value that stands for 1.

    Raises:
        FileNotFoundError: If there is nothing there, or no image in it.
        ValueError: If nothing was given, or what is there is no collection of images of so many channels.
        OSError: If it cannot be read.
    """
    if not given:
        raise ValueError(f"no images given; give {ACCEPTED}")
    if white is not None and num_channels == 3:
        raise ValueError(f"white={white} is for images of other than 3 channels; leave it out")
    bands = {} if num_channels == 3 else {"num_channels": num_channels, "white": white}
    if all(word.endswith(SHARD_ENDINGS) for word in given):
        found = [_make(TarShards, "tar shards", shards=[_absolute(word) for word in given])]
    else:
        found = [_recognise(word, bands) for word in given]
    for part in found:
        if part.source.num_channels != num_channels:
            raise ValueError(
                f"the model takes images of {num_channels} channels, {part.kind} have {part.source.num_channels}; give "
                "a folder or a list of image files of so many, or another model"
            )
    return found[0] if len(found) == 1 else _mix(found)


def _recognise(word: str, bands: dict[str, Any]) -> Recognised:
    path = Path(word).expanduser()
    if _ADDRESS.match(word) or word.endswith(SHARD_ENDINGS) or re.search(r"\.tar\b", word):
        return _make(TarShards, "tar shards", shards=_absolute(word))
    if path.is_dir():
        return _recognise_folder(path.resolve(), bands)
    if path.is_file():
        return _recognise_file(path.resolve(), bands)
    if not path.exists() and _REPOSITORY.fullmatch(word):
        return _make(HuggingFaceImages, "data set on the hub", name=word)
    raise FileNotFoundError(f"images {word}: there is nothing there; give {ACCEPTED}")


def _recognise_folder(folder: Path, bands: dict[str, Any]) -> Recognised:
    if any((folder / mark).is_file() for mark in SAVED_MARKS):
        return _make(HuggingFaceImages, "saved data set", name=str(folder))
    if (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir():
        return _make(DavisFrames, "frames of DAVIS' train split", root=str(folder))
    if any(entry.name.endswith(SHARD_ENDINGS) for entry in folder.iterdir()):
        return _make(TarShards, "tar shards", shards=str(folder))
    videos = find_files(folder, VIDEO_EXTENSIONS, recursive=True)
    try:
        images = _make(ImageFolder, "folder of images", root=str(folder), **bands)
    except FileNotFoundError:
        if not videos and find_files(folder, tuple(TABLES), recursive=True):
            return _make(HuggingFaceImages, "folder of tables", name=str(folder))
        return _make(VideoFrames, "frames of videos", path=str(folder))
    return _mix([images, _make(VideoFrames, "frames of videos", path=str(folder))]) if videos else images


def _recognise_file(path: Path, bands: dict[str, Any]) -> Recognised:
    if path.suffix.lower() in TABLES:
        return _make(HuggingFaceImages, "table", name=str(path))
    if path.suffix.lower() in PICTURE_ENDINGS or is_picture(path):
        raise ValueError(
            f"images {path}: this is one image; give the folder that holds it, or a text file with a path per line"
        )
    if is_video(path):
        return _make(VideoFrames, "frames of a video", path=str(path))
    return _make(FileList, "list of files", path=str(path), **bands)


def _make(kind: type[ImageSource], words: str, **arguments: Any) -> Recognised:
    return Recognised(kind(**arguments), words, f"srt_distill.data.{kind.__name__}", arguments)


def _mix(parts: Sequence[Recognised]) -> Recognised:
    source = Mixture([part.source for part in parts])
    words = " and ".join(dict.fromkeys(part.kind for part in parts))
    return Recognised(source, words, "srt_distill.data.Mixture", {"sources": [part.config for part in parts]})


def _absolute(word: str) -> str:
    return word if _ADDRESS.match(word) else str(Path(word).expanduser().absolute())
