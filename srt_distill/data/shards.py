"""Images in tar shards as WebDataset lays them out, in folders or behind URLs."""

import json
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from srt_distill.data.kinds import PICTURE_ENDINGS
from srt_distill.data.listing import natural_order
from srt_distill.data.streaming import ImageStream, Sample

SIZES_FILE = "sizes.json"
"""File beside the shards that tells how many samples each holds, as tools of WebDataset write it."""

COUNTING_THREADS = 8

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class TarShards(ImageStream):
    """The images of tar files: of each sample the first member that is a picture; members of one stem are a sample.

    Shards are read forward and never unpacked to disk. To know how many images each holds, they are gone through once
    when the source is built: quick where they lie on a disk, as long as reading them where they come over a network. A
    file sizes.json beside them, {"shard-000.tar": 1000, …}, saves that; `json.dumps(TarShards(…).sizes)` is one.

    Args:
        shards: a folder of them, one, or a pattern: local paths or any URL that fsspec knows (http, s3, gs, hf),
            with `{000..146}` for numbers or `*`; or several of these.
        buffer: images among which the order is shuffled; up to nine times as many are held in memory, encoded, in each
            loader process.

    Raises:
        FileNotFoundError: If there is no such shard.
        OSError: If a shard cannot be read.
        ValueError: If they hold no image.
    """

    def __init__(self, shards: str | list[str], buffer: int = 256) -> None:
        self._urls = find_shards([shards] if isinstance(shards, str) else shards)
        super().__init__([_last_part(url) for url in self._urls], count_images(self._urls), buffer)

    def read_shard(self, shard: int, start: int) -> Iterator[Sample]:
        """Read a shard from its image number `start` on."""
        for number, (tar, member) in enumerate(_pictures(self._urls[shard])):
            if number >= start:
                file = tar.extractfile(member)
                yield Sample(member.name, b"" if file is None else file.read())


def find_shards(patterns: Sequence[str]) -> list[str]:
    """List the shards that folders, paths, URLs and patterns stand for, in natural order within each.

    Raises:
        FileNotFoundError: If one stands for none.
    """
    found: list[str] = []
    for pattern in patterns:
        match = _BRACES.search(pattern)
        if match:
            first, last = match.groups()
            numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
            found += find_shards([pattern[: match.start()] + number + pattern[match.end() :] for number in numbers])
            continue
        system, path = url_to_fs(pattern)
        if "*" in pattern:
            shards = natural_order([str(name) for name in system.glob(path)])
        elif system.isdir(path) and not path.endswith(".tar"):
            listed = [str(name) for name in system.ls(path, detail=False)]
            shards = natural_order([name for name in listed if _last_part(name).endswith((".tar", ".tar.gz", ".tgz"))])
        else:
            shards = [path]
        if not shards:
            raise FileNotFoundError(f"no tar shard at {pattern}; check the path")
        found += [system.unstrip_protocol(name) for name in shards]
    return found


def count_images(urls: Sequence[str]) -> list[int]:
    """Count the images in each shard: from `sizes.json` beside it where there is one, else by going through it.

    Raises:
        OSError: If a shard cannot be read.
        ValueError: If a `sizes.json` is not what it should be.
    """
    told = {folder: _read_sizes(folder) for folder in {url.rpartition("/")[0] for url in urls}}

    def count(url: str) -> int:
        known = told[url.rpartition("/")[0]].get(_last_part(url))
        return sum(1 for _ in _pictures(url)) if known is None else known

    with ThreadPoolExecutor(COUNTING_THREADS) as threads:
        return list(threads.map(count, urls))


def _read_sizes(folder: str) -> dict[str, int]:
    try:
        with fsspec.open(f"{folder}/{SIZES_FILE}", "rb") as file:
            sizes: Any = json.load(file)  # type: ignore[arg-type]
    except FileNotFoundError:
        return {}
    if not isinstance(sizes, dict) or not all(isinstance(size, int) and size >= 0 for size in sizes.values()):
        raise ValueError(
            f'{folder}/{SIZES_FILE} must hold {{"<shard>.tar": <number of images>, …}}; correct or remove it'
        )
    return sizes


def _pictures(url: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Go through a shard, one picture per sample; each can be read until the next is asked for."""
    try:
        with (
            fsspec.open(url, "rb") as file,
            tarfile.open(fileobj=file, mode="r:*" if file.seekable() else "r|*") as tar,  # type: ignore[union-attr]
        ):
            last = None
            for member in tar:
                tar.members = []  # the module would keep them all
                folder, name = posixpath.split(member.name)
                stem, _, endings = name.partition(".")
                key = posixpath.join(folder, stem)
                ending = "." + endings.rpartition(".")[2].lower()
                if member.isfile() and stem and key != last and ending in PICTURE_ENDINGS:
                    last = key
                    yield tar, member
    except tarfile.TarError as error:
        raise OSError(f"cannot read shard {_last_part(url)}: {error}") from error
    except (OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"no shard at {url}; check the path") from error
        raise OSError(f"cannot read shard {_last_part(url)}: {error}") from error


def _last_part(url: str) -> str:
    return url.rpartition("/")[2]
