"""Files and folders that are complete or absent, never half-written, and never in the place of somebody else's.

Shape legend: none.

Everything is written beside its destination and moved over it, so that a full disk or a kill leaves the old one intact.
What a killed process left behind is removed the next time that something is written there: a live one holds a lock on
its temporary file or folder, which its end releases, however it ends.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ALMOST_NOTHING = 1 << 20  # bytes free below which a failed write is put down to a full disk
TEMPORARY = re.compile(r"\.(?P<name>.+)-(?P<kind>new|old)-[a-z0-9_]{8}(\.\w+)?")  # as mkstemp names them
FILLING = ".filling-"  # begins the name of what a folder is filled from where it is


@dataclass(frozen=True)
class Holding:
    """What a folder of ours holds: the rule by which it may be replaced by a newer one.

    Attributes:
        mark: A file that each of them has.
        names: Patterns of all that may be in it, as paths below it: `*.json`, `transformers/*`.
    """

    mark: str
    names: Sequence[str]


TIMM_FOLDER = Holding(mark="config.json", names=("config.json", "model.safetensors"))


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place when the block ends well and vanishes otherwise.

    Args:
        path: Destination; its folder is made. An older file's permissions stay as they are.

    Yields:
        Path to write to, with the destination's ending.

    Raises:
        OSError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary, lock = _make_temporary(path.parent, f".{path.stem}-new-", path.suffix)
    try:
        with _full_disk_said(path):
            yield temporary
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
            temporary.chmod(mode)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replaced_folder(path: Path, holding: Holding) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `path` when the block ends well and vanishes otherwise.

    A folder cannot be replaced in one move, so the old one steps aside for the moment between two renames, under a name
    from which it is restored if the second fails. A folder that cannot be renamed (a mounted volume, the current
    folder, one whose parent is read-only) is filled where it is, its mark last. A link stays, and what it leads to is
    replaced.

    Args:
        path: Destination, absent, empty or an older folder of the same kind.
        holding: What such a folder holds.

    Yields:
        Folder to write into.

    Raises:
        FileExistsError: If there is something else at the destination; nothing of it is touched.
        PermissionError: If it cannot be written there.
        OSError: If the disk is full.
    """
    path = require_replaceable(path, holding)
    in_place = _stays_where_it_is(path)
    temporary, lock = _make_temporary(path, FILLING) if in_place else _make_temporary(path.parent, f".{path.name}-new-")
    aside = temporary.with_name(temporary.name.replace("-new-", "-old-"))
    try:
        with _full_disk_said(path):
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o777 & ~_umask())
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    share(file)
            if in_place:
                _move_in(temporary, path, holding)
            else:
                _swap(temporary, path, aside, holding)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
        os.close(lock)


def require_replaceable(path: Path, holding: Holding) -> Path:
    """Check, before work is spent, that a folder may and can be written, and remove what a kill left there.

    Args:
        path: Destination.
        holding: What folders of this kind hold.

    Returns:
        The folder itself, links followed.

    Raises:
        FileExistsError: If there is a file, or a folder with anything that is not of this kind.
        PermissionError: If it cannot be written there.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise FileExistsError(
            f"output {path} is a file; give a folder that is absent, empty or an older one to replace"
        )
    if path.is_dir() and _stays_where_it_is(path):
        require_writable(path)
    else:
        require_writable(path.parent)
    foreign = _find_foreign(path, holding) if path.is_dir() else None
    if foreign is not None:
        raise FileExistsError(
            f"output {path} holds {foreign}, which would be lost; give a folder that is absent, empty or an older "
            "output of this command that holds nothing else"
        )
    return path


def require_apart(output: Path, source: Path, what: str) -> None:
    """Check that an output neither is what it is made from, nor holds it, nor lies in it.

    Args:
        output: Where to write.
        source: The folder or file that must stay.
        what: What the message calls it.

    Raises:
        FileExistsError: If it does.
    """
    ours, theirs = output.resolve(), source.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        relation = "is" if ours == theirs else "contains" if ours in theirs.parents else "lies inside"
        raise FileExistsError(f"output {output} {relation} {what} {source}; give a folder outside it")


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
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files and folders that they were writing, once per process and folder.

    Temporary files of live processes are locked, and stay. A folder that was about to be replaced, and whose newer
    version never took its place, is put back.

    Args:
        folder: Where they were writing.
    """
    _remove_leftovers(folder.resolve())


@cache
def _remove_leftovers(folder: Path) -> None:
    found = [(entry, match) for entry in folder.iterdir() if (match := TEMPORARY.fullmatch(entry.name))]
    for entry, match in sorted(found, key=lambda pair: pair[1]["kind"] == "new"):  # old ones while their new one lives
        owner = entry.with_name(entry.name.replace("-old-", "-new-"))
        with suppress(OSError), _abandoned(owner):
            original = folder / match["name"]
            if match["kind"] == "old" and not original.exists():
                entry.rename(original)
            elif entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def share(file: Path) -> None:
    """Give a private temporary file the mode that any new file has."""
    file.chmod(0o666 & ~_umask())


def _make_temporary(parent: Path, prefix: str, suffix: str | None = None) -> tuple[Path, int]:
    """Make a locked temporary file, or without suffix a folder, and return it with the descriptor of its lock."""
    while True:
        if suffix is None:
            temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        else:
            handle, name = tempfile.mkstemp(dir=parent, prefix=prefix, suffix=suffix)
            os.close(handle)
            temporary = Path(name)
        with suppress(FileNotFoundError):  # cleaned away by another process between the two calls
            lock = os.open(temporary, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: nobody cleans there either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if temporary.exists():
                return temporary, lock
            os.close(lock)


@contextmanager
def _abandoned(temporary: Path) -> Iterator[None]:
    """Hold the lock of a temporary file while it is removed; an OSError says that a live process has it."""
    if not temporary.exists():
        yield
        return
    lock = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _swap(temporary: Path, path: Path, aside: Path, holding: Holding) -> None:
    """Put a folder in the place of another by two renames, or where the file system forbids that, file by file."""
    if path.exists():
        try:
            path.rename(aside)
        except OSError:  # such as a folder of a container's lower layer
            _move_in(temporary, path, holding)
            return
    try:
        temporary.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise


def _move_in(temporary: Path, path: Path, holding: Holding) -> None:
    """Put a folder's content into another in place of what is there, the mark off first and on last."""
    (path / holding.mark).unlink(missing_ok=True)
    for entry in path.iterdir():
        if entry == temporary:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for entry in sorted(temporary.iterdir(), key=lambda entry: entry.name == holding.mark):
        entry.rename(path / entry.name)


def _stays_where_it_is(path: Path) -> bool:
    """Whether a folder cannot be renamed, or must not be because somebody stands in it."""
    if not path.is_dir():
        return False
    here = Path.cwd()
    return path.is_mount() or path == here or path in here.parents or not os.access(path.parent, os.W_OK)


def _find_foreign(path: Path, holding: Holding) -> str | None:
    """Find something in a folder that a folder of its kind does not hold, or None; an empty folder holds nothing."""
    ours, first = (path / holding.mark).is_file(), None
    for root, folders, files in os.walk(path):
        here = Path(root)
        if here == path and any(name.startswith(FILLING) for name in folders):
            ours = True  # a killed process was filling this folder where it is
            folders[:] = [name for name in folders if not name.startswith(FILLING)]
        for name in [*files, *(name for name in folders if (here / name).is_symlink())]:
            below = (here / name).relative_to(path).as_posix()
            if not any(fnmatchcase(below, pattern) for pattern in holding.names):
                return below
            first = first or below
    return None if ours else first


@contextmanager
def _full_disk_said(path: Path) -> Iterator[None]:
    """Say of a failed write that the disk is full, where it is; libraries say it in words of their own."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in FULL
        if not full and shutil.disk_usage(path.parent).free > ALMOST_NOTHING:
            raise
        raise OSError(
            f"{path} could not be written: no space left there ({error}). What was there before is untouched; free "
            "space, or write elsewhere"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
