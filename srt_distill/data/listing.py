"""Many file names, found without touching the files and held without an object each.

find_pictures(root, recursive)           all pictures below a folder
require_filled(root, names)              no folder of a class without a picture
list_frames(folder)                      the frames of one sequence, checked; also its masks
find_files(root, extensions, recursive)  files by their endings
natural_order(names)                     1, 2, 10
"""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from srt_distill.data.kinds import FOREIGN_ENDINGS, HEIF_ENDINGS, PICTURE_ENDINGS, by_ending, is_picture, pick_alike

NUM_NAMED = 5  # how many of the files that a warning is about it names

_DIGITS = re.compile("[0-9]+")
_ALL_DIGITS_ALIKE = str.maketrans("123456789", "000000000")


class PackedNames(Sequence[str]):
    """A read-only list of strings in two buffers: their bytes end to end, and where each one ends.

    Costs its UTF-8 length plus 8 bytes a name, where a list of `str` costs its length plus about 57; and as there is
    one object instead of one a name, forked loader processes share the memory instead of copying it page by page as
    reference counts change.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} names")
        index %= len(self)
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return len(self._bytes) + self._ends.nbytes


def find_files(root: Path, extensions: tuple[str, ...], recursive: bool) -> list[str]:
    """Find files below a folder whose names end in one of the extensions; paths relative to it, in natural order.

    Names that begin with a dot are passed over (editor checkpoints, `._` copies). So is what cannot be read as a file,
    with a warning: pipes and devices, links that lead nowhere or to themselves, folders that may not be listed. Linked
    folders are followed, each real folder once. No file is opened, and only links are asked where they lead: what
    another entry is comes with the directory listing.

    Args:
        root: the folder.
        extensions: lower-case endings with their dot; the comparison ignores case.
        recursive: whether to look into folders below.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
        PermissionError: If it may not be listed.
    """
    names, irregular = _walk(root, recursive)
    _warn_of_irregular(root, [name for name in irregular if name.lower().endswith(extensions)])
    return natural_order([name for name in names if name.lower().endswith(extensions)])


def find_pictures(root: Path, recursive: bool) -> list[str]:
    """Find all pictures below a folder; paths relative to it, in natural order.

    As `find_files`, but what a picture is, the content says where the ending does not (see `kinds`). Pictures in
    formats that cannot be read here (HEIC without pillow-heif, cameras' raw files) are counted in a warning.

    Args:
        root: the folder.
        recursive: whether to look into folders below.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
        PermissionError: If it may not be listed.
    """

    def look(name: str) -> bool:
        try:
            return is_picture(root / name)
        except OSError:
            return False

    names, irregular = _walk(root, recursive)
    _warn_of_irregular(
        root, [name for kind, group in by_ending(irregular).items() if kind in PICTURE_ENDINGS for name in group]
    )
    pictures: list[str] = []
    foreign: dict[str, list[str]] = {}
    for kind, group in by_ending(names).items():
        if kind in FOREIGN_ENDINGS:
            foreign[kind] = group
        else:
            pictures += group if kind in PICTURE_ENDINGS else pick_alike(group, look)
    _warn_of_foreign(root, foreign)
    return natural_order(pictures)


def require_filled(root: Path, names: Iterable[str]) -> None:
    """Refuse folders of classes that hold no picture: their class would silently be left out.

    Args:
        root: holds a folder per class.
        names: of the pictures below it, relative to it.

    Raises:
        ValueError: If there is such a folder.
    """
    filled = {name.partition("/")[0] for name in names}
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in filled:
            raise ValueError(f"class folder {entry} holds no picture; put some into it, or remove it")


def list_frames(folder: Path) -> list[Path]:
    """List the frames of one sequence (or its masks): all pictures in a folder, in natural order.

    Args:
        folder: the sequence's; folders in it are not looked into.

    Returns:
        Their paths; none where the folder holds no picture.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
        PermissionError: If it may not be listed.
        ValueError: If two files differ in their endings only: one frame would count twice.
    """
    names = find_pictures(folder, recursive=False)
    stems: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0] or name
        if stem in stems:
            raise ValueError(
                f"frame {stem} of {folder} is there twice, as {stems[stem]} and as {name}; keep one of them"
            )
        stems[stem] = name
    return [folder / name for name in names]


def natural_order(names: list[str]) -> list[str]:
    """Sort names as people count: a2 before a10, and 007 beside 7.

    Where digits stand in the same places in all names, as in padded numbers, that is the order of their letters, and
    takes a fifth of the time.
    """
    places = {names[0].translate(_ALL_DIGITS_ALIKE)} if names else set()
    if all(name.translate(_ALL_DIGITS_ALIKE) in places for name in names):
        return sorted(names)
    return sorted(names, key=lambda name: (_DIGITS.sub(_by_length, name), name))


def _by_length(digits: re.Match[str]) -> str:
    """Write a number so that its letters sort by its size: 0 (a digit, as it was), how many follow, and these."""
    number = digits[0].lstrip("0")
    return f"0{chr(len(number))}{number}"


def _walk(root: Path, recursive: bool) -> tuple[list[str], list[str]]:
    """Find relative paths of the regular files below a folder, and of entries that are neither files nor folders."""
    if not root.exists():
        raise FileNotFoundError(f"folder {root} does not exist; check the path")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not a folder; give the folder that holds it")
    files: list[str] = []
    irregular: list[str] = []
    closed: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    kind = _kind(entry)
                    if kind == "file":
                        files.append(folder + entry.name)
                    elif kind == "folder":
                        pending.append(f"{folder}{entry.name}/")
                    else:
                        irregular.append(folder + entry.name)
        except OSError as error:
            if not folder:
                raise PermissionError(f"folder {root} cannot be listed ({error.strerror}); check its mode") from error
            closed.append(f"{folder} ({error.strerror})")
        if not recursive:
            break
    if closed:
        _warn(f"folders in {root} cannot be listed and are passed over", closed)
    return files, irregular


def _kind(entry: os.DirEntry[str]) -> str:
    """Say what an entry is; a link is what it leads to."""
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else "other"
    except OSError:  # a link to itself
        return "other"


def _warn_of_irregular(root: Path, names: list[str]) -> None:
    if names:
        _warn(f"entries of {root} are no regular files (pipes, links that lead nowhere) and are passed over", names)


def _warn_of_foreign(root: Path, names: dict[str, list[str]]) -> None:
    if names:
        kinds = ", ".join(f"{len(group)} {kind[1:].upper()}" for kind, group in sorted(names.items()))
        _warn(
            f"pictures in {root} are of formats that cannot be read and are passed over: {kinds}; convert them to JPEG "
            f"or PNG{' or install pillow-heif' * any(kind in HEIF_ENDINGS for kind in names)}",
            [name for group in names.values() for name in group],
        )


def _warn(what: str, names: list[str]) -> None:
    names = sorted(names)
    shown = ", ".join(names[:NUM_NAMED]) + ", …" * (len(names) > NUM_NAMED)
    warnings.warn(f"{len(names)} {what} ({shown})", stacklevel=4)
