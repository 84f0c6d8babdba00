"""A run's folder while it is trained: one run at a time, and which checkpoint a run goes on from.

Shape legend: none.
"""

import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from srt_distill.files import replaced_file, require_writable
from srt_distill.runs import CHECKPOINT_FOLDER, LAST_CHECKPOINT, read_checkpoint, round_folder

BEST_CHECKPOINT = "best.ckpt"
PREVIOUS_CHECKPOINT = "previous.ckpt"
LOCK_FILE = ".lock"


_held: list[IO[str]] = []


def _let_go() -> None:
    """Close in a forked process, such as a loader's, what would keep the lock a while after its owner was killed."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock falls with the process, however that ends.

    Raises:
        RuntimeError: If another run holds it.
        PermissionError: If nothing can be written there.
    """
    require_writable(folder)
    path = folder / LOCK_FILE
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise RuntimeError(
                f"another run (process {file.read().strip() or 'unknown'}) is training in {folder}; wait for it, or "
                "name another folder with --trainer.default_root_dir"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)


def last_checkpoint(folder: Path) -> Path:
    """Where a run's newest checkpoint lies."""
    return folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT


def choose_checkpoint(folder: Path, resume: str | None) -> Path | None:
    """Find what a run goes on from.

    Args:
        folder: Of the run.
        resume: None to start one; `last` to go on; `auto` to go on if there is one to go on with; or a .ckpt file.

    Returns:
        The checkpoint, proven whole; None to start from the beginning.

    Raises:
        ValueError: If the folder holds a run that would be overwritten, or none to resume, or a damaged one.
        FileNotFoundError: If the file does not exist.
    """
    last = last_checkpoint(folder)
    begun = last.exists() or last.with_name(PREVIOUS_CHECKPOINT).exists()
    if resume is None and (begun or round_folder(folder, 1).exists()):
        raise ValueError(
            f"{folder} already holds a run; continue it with --resume last, or name another folder with "
            "--trainer.default_root_dir"
        )
    if resume == "last" and not begun:
        raise ValueError(f"{folder} holds no run to resume: {last} is missing; leave --resume out to start one")
    if resume in ("last", "auto"):
        return _newest_whole(last) if begun else None
    if resume is not None:
        read_checkpoint(resume)
    return None if resume is None else Path(resume)


def _newest_whole(last: Path) -> Path:
    previous = last.with_name(PREVIOUS_CHECKPOINT)
    try:
        read_checkpoint(last)
    except (ValueError, FileNotFoundError) as error:
        if not previous.exists():
            raise
        step = read_checkpoint(previous)["global_step"]
        warnings.warn(f"{error}\nGoing on from {previous}, step {step}", stacklevel=2)
        return previous
    return last


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its destination and moves it there: a kill or a full disk leaves the old one whole.

    Lightning itself writes to $TMPDIR, from which a move to another file system is a copy that can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint whole or not at all."""
        path = Path(path)
        with replaced_file(path) as temporary:
            torch.save(checkpoint, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if path.name == LAST_CHECKPOINT and path.exists():
                keep_aside(path, path.with_name(PREVIOUS_CHECKPOINT))


def keep_aside(path: Path, other: Path) -> None:
    """Give a file a second name, in the place of what had it; a copy where the disk knows no links."""
    with replaced_file(other) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
