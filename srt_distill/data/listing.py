"""Many file names, found without touching the files and held without an object each."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


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
    """Paths below a folder whose names end in one of the extensions, relative to it and sorted.

    Reads directories only: no file is opened, and none is asked for its status (what an entry is comes with the
    directory listing; a symbolic link with a matching name is taken for a file). Linked folders are followed, each real
    folder once. Names that begin with a dot are passed over (editor checkpoints, `._` copies).

    Args:
        root: the folder.
        extensions: lower-case endings with their dot; the comparison ignores case.
        recursive: whether to look into folders below.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
    """
    if not root.exists():
        raise FileNotFoundError(f"folder {root} does not exist; check the path")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not a folder; give the folder that holds it")
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                matches = entry.name.lower().endswith(extensions)
                if matches and (entry.is_symlink() or not entry.is_dir()):
                    found.append(folder + entry.name)
                elif recursive and entry.is_dir():
                    pending.append(f"{folder}{entry.name}/")
    found.sort()
    return found
