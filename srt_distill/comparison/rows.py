"""What a comparison found and what it says: rows, gains with their intervals, shares, costs and plain sentences.

Shape legend: none.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from srt_distill.comparison.intervals import FEWEST_ITEMS
from srt_distill.latency import Latency
from srt_distill.tasks import Score, TaskInfo

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Row:
    """One candidate on one task.

    Attributes:
        name: Of the candidate.
        scores: Over all items, by score.
        by_item: The same of each item alone, by item.
        gains: Scores less the reference's; empty for the reference.
        intervals: 95% intervals of the gains, from a paired bootstrap over items.
        seconds: What judging took, in all sittings together.
        fingerprint: What tells the candidate from others.
    """

    name: str
    scores: dict[str, float]
    by_item: dict[str, dict[str, float]]
    gains: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    seconds: float
    fingerprint: Mapping[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """All candidates on one task.

    Attributes:
        info: What the task is.
        settings: Of its protocol.
        data: Digest of all files that were judged on.
        items: Names of the items.
        rows: In the order of the candidates.
    """

    info: TaskInfo
    settings: dict[str, Any]
    data: str
    items: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def headline(self) -> Score:
        """The score that verdicts and charts are about."""
        return self.info.scores[0]

    def row(self, name: str) -> Row:
        """Find the row of a candidate."""
        return next(row for row in self.rows if row.name == name)

    def improvement(self, row: Row) -> float:
        """Measure how much better a row is than the reference in the headline, whatever its direction."""
        return self._direction * row.gains[self.headline.name]

    def interval(self, row: Row) -> tuple[float, float]:
        """Give the interval of that improvement."""
        ends = [self._direction * end for end in row.intervals[self.headline.name]]
        return min(ends), max(ends)

    def can_tell(self, row: Row) -> bool:
        """Tell whether there are items enough, and the interval lies on one side of 0."""
        low, high = self.interval(row)
        return len(self.items) >= FEWEST_ITEMS and (low > 0 or high < 0)

    def count_better(self, row: Row, reference: Row) -> int:
        """Count the items on which a row is better than the reference in the headline."""
        name = self.headline.name
        pairs = [(row.by_item[item][name], reference.by_item[item][name]) for item in self.items]
        return sum(self._direction * (ours - theirs) > 0 for ours, theirs in pairs)

    @property
    def _direction(self) -> int:
        return 1 if self.headline.higher_is_better else -1


@dataclass(frozen=True)
class Cost:
    """What a candidate costs, whatever the task.

    Attributes:
        name: Of the candidate.
        passes: Forward passes per image.
        num_parameters: Weights of the network.
        seconds: Median time per image.
        latency: The same against the reference's, measured in turns; None for the reference.
    """

    name: str
    passes: int
    num_parameters: int
    seconds: float
    latency: Latency | None


@dataclass(frozen=True)
class Comparison:
    """Candidates on tasks.

    Attributes:
        tasks: One result per task.
        costs: One per candidate, in order; empty where nothing was timed.
        reference: Name of the candidate that gains and times are relative to.
        ensemble: Name of the candidate whose gain is the whole that shares are of, such as full SRT; or None.
        settings: What the numbers were made with: device, versions, command, size of the timed image.
    """

    tasks: tuple[TaskResult, ...]
    costs: tuple[Cost, ...]
    reference: str
    ensemble: str | None
    settings: dict[str, Any]

    def share(self, result: TaskResult, row: Row) -> float | None:
        """State a row's improvement as a share of the ensemble's; None where the ensemble improves nothing."""
        if self.ensemble is None or row.name == self.reference:
            return None
        whole = result.improvement(result.row(self.ensemble))
        return result.improvement(row) / whole if whole > 0 else None

    def verdicts(self, result: TaskResult) -> list[str]:
        """Say what each candidate but the reference gained on a task, cheapest first; or that this cannot be told."""
        passes = {cost.name: cost.passes for cost in self.costs}
        others = sorted((r for r in result.rows if r.name != self.reference), key=lambda r: passes.get(r.name, 1))
        verdicts = [self._verdict(result, row, passes.get(row.name)) for row in others]
        if others and self.ensemble is not None:
            ensemble = result.row(self.ensemble)
            if not result.improvement(ensemble) > 0:
                gain = signed(ensemble.gains[result.headline.name])
                verdicts[0] += f" {self.ensemble} itself does not gain here ({gain}), so there is no share to state."
        return verdicts

    def _verdict(self, result: TaskResult, row: Row, passes: int | None) -> str:
        score, reference = result.headline, result.row(self.reference)
        low, high = row.intervals[score.name]
        cost = "one pass" if passes == 1 else f"{passes} passes"
        unit = f" {score.unit}" if score.unit else ""
        numbers = (
            f"{score.name} {plain(row.scores[score.name])}{unit} against {plain(reference.scores[score.name])} "
            f"({signed(row.gains[score.name])} [{signed(low)}, {signed(high)}])"
        )
        count = len(result.items)
        items = f"{count} {result.info.item}" + "s" * (count != 1)
        better = f"better on {result.count_better(row, reference)} of {items}"
        head = row.name if passes is None else f"{row.name} ({cost} per image)"  # untimed, costs are not known
        gains = result.improvement(row) > 0
        if not result.can_tell(row):
            few = f"{items} are too few to tell" if count < FEWEST_ITEMS else f"{items} cannot tell"
            lean = "scores better than" if gains else "does not score better than"
            return f"{head} {lean} {self.reference}, but {few}: {numbers}, {better}."
        verdict = f"{head} {'beats' if gains else 'does not beat'} {self.reference}: {numbers}, {better}."
        share = self.share(result, row)
        if self.ensemble is None or row.name == self.ensemble or share is None or not gains:
            return verdict
        whole = signed(result.row(self.ensemble).gains[score.name])
        return f"{verdict} That is {percent(share)} of the gain of {self.ensemble} ({whole})."

    def to_dict(self) -> dict[str, Any]:
        """Give plain data for JSON; every row says what it was made with."""
        shared = {name: self.settings.get(name) for name in ("srt_distill", "command")}
        tasks = [
            {
                **asdict(result.info),
                "settings": result.settings,
                "data": result.data,
                "items": list(result.items),
                "verdicts": self.verdicts(result),
                "rows": [
                    {
                        "name": row.name,
                        "scores": row.scores,
                        "gains": row.gains,
                        "intervals": {name: list(ends) for name, ends in row.intervals.items()},
                        "share_of_ensemble_gain": self.share(result, row),
                        "by_item": row.by_item,
                        "fingerprint": dict(row.fingerprint),
                        "task": result.info.name,
                        "task_version": result.info.version,
                        "seconds": row.seconds,
                        **shared,
                    }
                    for row in result.rows
                ],
            }
            for result in self.tasks
        ]
        costs = [{**asdict(cost), "seconds_per_image": cost.seconds} for cost in self.costs]
        for cost in costs:
            del cost["seconds"]
        return {
            "reference": self.reference,
            "ensemble": self.ensemble,
            "settings": self.settings,
            "costs": costs,
            "tasks": tasks,
        }


def as_folder(name: str) -> str:
    """Make a name that of a folder: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def plain(score: float) -> str:
    """Write a score to three decimals, with a true minus where it is below zero; a dash where there is none."""
    return "\N{EN DASH}" if math.isnan(score) else f"{score:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Write a difference of scores to three decimals, with its sign and a true minus."""
    return "\N{EN DASH}" if math.isnan(value) else f"{value:+.3f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Write a share in whole percent, with a true minus."""
    return f"{share:.0%}".replace("-", MINUS)


def check_names(names: Sequence[str], reference: str | None, ensemble: str | None) -> str:
    """Refuse candidates that cannot stand in one table.

    Args:
        names: Of the candidates.
        reference: Name of the row that others are measured against; None for the first.
        ensemble: Name of the row whose gain is the whole, if any.

    Returns:
        The name of the reference.

    Raises:
        ValueError: If there is none, two would share a folder, a name has no letter or digit, or the reference or
            ensemble is not among them.
    """
    if not names:
        raise ValueError("no candidate given; judge at least one")
    folders = [as_folder(name) for name in names]
    for name, folder in zip(names, folders, strict=True):
        if not folder:
            raise ValueError(f"candidate name {name!r} has no letter or digit; its folder would have no name")
        if folders.count(folder) > 1:
            raise ValueError(f"more than one candidate would write to folder {folder!r}; give them names that differ")
    for role, name in (("reference", reference), ("ensemble", ensemble)):
        if name is not None and name not in names:
            raise ValueError(f"{role} {name!r} is not among the candidates {', '.join(names)}")
    return reference or names[0]
