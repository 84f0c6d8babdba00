"""One candidate on one task: what is finished is found again, the rest is judged, one item at a time.

Shape legend: none, tensors stay inside the candidate and what is prepared of it.

An item's folder holds what the task wrote for it and, written last, `outcome.json`: the numbers, checksums of the
files, and a digest of everything that they depend on. It is trusted only if the digest is today's and the files are
whole.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from srt_distill.extractor import Extractor
from srt_distill.files import replaced_file, write_file
from srt_distill.tasks import Candidate, Item, Outcome, Task

OUTCOME_FILE = "outcome.json"
PREPARED_FILE = "prepared.safetensors"
SECONDS_BETWEEN_LINES = 30
"""Of progress, where there is no terminal."""


@dataclass(frozen=True)
class Judged:
    """A candidate's outcomes on a task.

    Attributes:
        outcomes: By item.
        seconds: What judging took, in all sittings together.
    """

    outcomes: dict[str, Outcome]
    seconds: float


def judge_items(task: Task, candidate: Candidate, items: Sequence[Item], folder: Path, *, progress: bool) -> Judged:
    """Judge a candidate on all items of a task, those aside that are finished under the same digest.

    Args:
        task: The task.
        candidate: The candidate.
        items: What `task.items` gave.
        folder: Of this candidate on this task: a folder per item goes below it.
        progress: Show a progress bar, which counts images.
    """
    settings = describe(task, candidate)
    digest_of = {item.name: digest({**settings, "files": item.digest(), "seed": item.seed}) for item in items}
    judged: dict[str, tuple[Outcome, float]] = {}
    prepared: dict[str, Tensor] | None = None
    total = sum(item.num_images for item in items)
    shown = {"disable": not progress, "mininterval": 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES}
    with tqdm(total=total, unit="image", desc=f"{task.info.name}: {candidate.name}", **shown) as bar:
        seen = 0
        for item in items:
            place = folder / item.name
            bar.set_postfix_str(item.name, refresh=False)
            found = read_outcome(place, digest_of[item.name])
            if found is None:
                (place / OUTCOME_FILE).unlink(missing_ok=True)  # files about to be replaced must not pass for finished
                start = time.perf_counter()
                if prepared is None:
                    prepared = _prepare(task, candidate, folder, digest(settings))
                outcome = task.judge(_counted(candidate, bar), prepared, item, place)
                found = outcome, time.perf_counter() - start
                write_outcome(place, digest_of[item.name], *found)
            judged[item.name] = found
            seen += item.num_images
            bar.update(seen - bar.n)
    return Judged({name: outcome for name, (outcome, _) in judged.items()}, sum(s for _, s in judged.values()))


def describe(task: Task, candidate: Candidate) -> dict[str, Any]:
    """Give what an outcome depends on besides the item, as plain data."""
    normalization = candidate.normalization
    return {
        "task": task.info.name,
        "task_version": task.info.version,
        "settings": task.settings(),
        "candidate": dict(candidate.fingerprint),
        "normalization": {"mean": list(normalization.mean), "std": list(normalization.std)},
        "output_shifts": [list(shift) for shift in candidate.output_shifts],
    }


def digest(settings: Mapping[str, Any]) -> str:
    """Hash settings given as plain data; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def write_outcome(folder: Path, settings_digest: str, outcome: Outcome, seconds: float) -> None:
    """Mark an item as finished; to be called when its files are all written."""
    content = {
        "digest": settings_digest,
        "numbers": outcome.numbers,
        "files": {name: _checksum(folder / name) for name in outcome.files},
        "seconds": seconds,
        "srt_distill": version("srt-distill"),
    }
    write_file(folder / OUTCOME_FILE, json.dumps(content, indent=1))


def read_outcome(folder: Path, settings_digest: str) -> tuple[Outcome, float] | None:
    """Read a finished item's outcome and seconds; None if it is unfinished, damaged or of another digest."""
    try:
        content = json.loads((folder / OUTCOME_FILE).read_text())
        if content["digest"] != settings_digest:
            return None
        if any(_checksum(folder / name) != wanted for name, wanted in content["files"].items()):
            return None
        return Outcome(content["numbers"], tuple(content["files"])), float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prepare(task: Task, candidate: Candidate, folder: Path, settings_digest: str) -> dict[str, Tensor]:
    """Get what the task prepares of a candidate: from its file, or made and stored."""
    path = folder / PREPARED_FILE
    try:
        with safe_open(path, framework="pt") as stored:
            if (stored.metadata() or {}).get("digest") == settings_digest:
                return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError):
        pass
    prepared = task.prepare(candidate)
    if prepared:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in prepared.items()}
        with replaced_file(path) as temporary:
            save_file(tensors, temporary, metadata={"digest": settings_digest})
    return prepared


def _counted(candidate: Candidate, bar: tqdm) -> Candidate:
    """Make a candidate that moves the bar with every image it is shown."""

    def counting(extract: Extractor) -> Extractor:
        def run(images: Tensor) -> tuple[Tensor, ...]:
            maps = extract(images)
            bar.update(min(len(images), bar.total - bar.n))
            return maps

        return run

    read: Callable | None = candidate.read
    counted = None if read is None else lambda layers, norm: counting(read(layers, norm))
    return replace(candidate, extract=counting(candidate.extract), read=counted)
