"""Files and folders that are complete or absent, never half-written.

Shape legend: none.

Everything is written beside its destination and moved over it, so that a full disk or a kill leaves the old one intact.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well and vanishes when it does not.

    Args:
        path: Destination; its folder is made.

    Yields:
        Path to write to, with the destination's ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        share(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well and vanishes when it does not.

    A folder cannot be replaced in one move, so the old one steps aside for the moment between two renames, under a name
    from which it is restored if the second fails.

    Args:
        path: Destination, absent, empty or an older folder to replace.

    Yields:
        Folder to write into.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-new-"))
    temporary.chmod(0o777 & ~_umask())
    aside = temporary.with_name(temporary.name.replace("-new-", "-old-"))
    try:
        yield temporary
        if path.exists():
            path.rename(aside)
        try:
            temporary.rename(path)
        except OSError:
            if aside.exists():
                aside.rename(path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """Make a folder and prove that a file can be written there, before work is spent on what it is for.

    Raises:
        PermissionError: If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"output folder {folder} cannot be written to ({error}); choose another") from error


def share(file: Path) -> None:
    """Give a private temporary file the mode that any new file has."""
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
