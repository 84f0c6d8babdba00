"""What a task is: items in, plain numbers out, and how the field pools them.

Shape legend: H W pixels.

A task knows its data and its protocol and nothing else. Resuming, timing, progress, intervals, tables, TensorBoard,
pages and JSON are the driver's (`srt_distill.comparison.compare`), written once. Because `pool` takes any multiset of
outcomes, one paired bootstrap serves every task. A new task is one file here and one line in `tasks/__init__.py`.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from srt_distill.tasks.candidate import Candidate


@dataclass(frozen=True)
class Score:
    """A number that a task gives.

    Attributes:
        name: As the field writes it, such as "J&F-Mean", "mIoU", "RMSE".
        higher_is_better: Its direction.
        unit: What it is measured in, such as "m"; empty for shares.
    """

    name: str
    higher_is_better: bool = True
    unit: str = ""


@dataclass(frozen=True)
class TaskInfo:
    """What a result must say of the task that it is of.

    Attributes:
        name: Such as "davis-2017": heads its rows, and is the folder of its results.
        version: Raised whenever the same features could get another score.
        title: Heading of its section.
        item: The sampling unit, in the singular: "video", "image", "query".
        scores: What is measured, the headline first.
        source: Paper or code that the protocol follows.
    """

    name: str
    version: str
    title: str
    item: str
    scores: tuple[Score, ...]
    source: str


@dataclass(frozen=True)
class Item:
    """One sampling unit of a task.

    Attributes:
        name: Unique in its task; the folder of what is written for it.
        files: All files that its outcome depends on, images and labels.
        num_images: Images that are looked at, for the progress bar.
        seed: Of what is trained for it; a head under several seeds makes an item per (image, seed).
    """

    name: str
    files: tuple[Path, ...]
    num_images: int = 1
    seed: int = 0

    def digest(self) -> str:
        """Hash of the names and contents of its files; changes with any of them."""
        return digest_files(self.files)


@dataclass(frozen=True)
class Outcome:
    """What judging one item gave.

    Attributes:
        numbers: Plain data that `pool` understands: scores, or counts that are summed first.
        files: Files written to the item's folder, relative to it; the item counts as finished only while they exist.
    """

    numbers: dict[str, Any]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Pictures of one item, truth beside every candidate.

    Attributes:
        rows: A caption, and RGB pictures (H, W, 3) by column; columns are "image", "ground truth" and candidates.
        curves: Values by candidate, where an outcome has a course, such as J over frames.
        curve_label: What the curves show.
    """

    rows: tuple[tuple[str, dict[str, UInt8[np.ndarray, "_H _W 3"]]], ...]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    curve_label: str = ""


class Task(ABC):
    """Data and protocol. A task is a frozen dataclass: its fields are its options, the first is `root`, its data.

    What most tasks share has a default here; a task says what is its own.
    """

    @property
    @abstractmethod
    def info(self) -> TaskInfo:
        """What a result says of the task."""

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """Find and check the data, before any work: missing masks, sizes that differ, unknown labels.

        Raises:
            FileNotFoundError: If something is missing; it names the file and what is there.
            ValueError: If something cannot be used; it names the file, the rule and the remedy.
        """

    def settings(self) -> dict[str, Any]:
        """Give all that outcomes depend on besides candidate and item files, as plain data for JSON.

        By default the options but for paths; a task that trains something adds a digest of what it trains on.
        """
        options = {item.name: getattr(self, item.name) for item in fields(cast(Any, self))}
        return {name: value for name, value in options.items() if not isinstance(value, Path)}

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Make what judging needs of a candidate besides the item: a trained head, a gallery; here nothing.

        The driver stores it under the digest of settings and fingerprint, and does not ask again.
        """
        return {}

    @abstractmethod
    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Judge a candidate on one item.

        Args:
            candidate: Whose features.
            prepared: What `prepare` gave.
            item: One of `items`.
            folder: The item's own, for what is written; made when it is first written to.
        """

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Pool outcomes to scores, as the field does; here the mean of each over items, undefined ones left out.

        Any multiset of outcomes will do, so that a bootstrap may draw items with replacement.
        """
        names = [score.name for score in self.info.scores]
        values = {name: [outcome.numbers[name] for outcome in outcomes] for name in names}
        known = {name: [value for value in of if not math.isnan(value)] for name, of in values.items()}
        return {name: math.fsum(of) / len(of) if of else math.nan for name, of in known.items()}

    def relate(self, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, float]:
        """Compute scores that only make sense beside the reference, such as agreement with its predictions; here none.

        Args:
            outcomes: Of a candidate.
            reference: Of the candidate that others are measured against, on the same items in the same order.
        """
        return {}

    def tables(self, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
        """Write files that the field expects beside the results, such as DAVIS's two tables, by name; here none."""
        return {}

    @abstractmethod
    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show an image of the item in the size that the candidate sees, as bytes: for timing, and for pictures."""

    @abstractmethod
    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Draw pictures of an item.

        Args:
            item: One of `items`.
            outcomes: By candidate.
            folders: The item's folder, by candidate.
        """

    @classmethod
    @abstractmethod
    def example(cls, folder: Path) -> "Task":
        """Make the task on made data, seconds long: write a few items in its own layout, return it on them."""


def digest_files(files: Iterable[Path]) -> str:
    """Hash of names and contents of files, in order."""
    state = hashlib.sha256()
    for path in files:
        state.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()
