"""What is compared and what a comparison says: methods, their rows, gains, shares and plain sentences.

Shape legend: none, tensors stay inside the extractors.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from srt_distill.ensemble.shifts import Shift
from srt_distill.extractor import Extractor
from srt_distill.latency import Latency
from srt_distill.tasks.davis.output_ensemble import UNSHIFTED
from srt_distill.tasks.davis.result_files import DavisResult

MINUS = "\N{MINUS SIGN}"
SCORE = "J&F-Mean"  # the score that gains and shares are stated in


@dataclass(frozen=True)
class Method:
    """An extractor and what a table says about it.

    Attributes:
        name: caption of its row, such as "teacher", "SRT d=3" or "student".
        extract: the features; the last map is evaluated.
        passes: forward passes a frame costs: 1, or (2d+1)² under SRT of radius d.
        num_parameters: weights of the network.
        fingerprint: what tells these features from others, as plain data; decides whether a sequence is finished.
        output_shifts: shifts of the last maps, where outputs are averaged instead of features.
    """

    name: str
    extract: Extractor
    passes: int
    num_parameters: int
    fingerprint: Mapping[str, Any]
    output_shifts: tuple[Shift, ...] = UNSHIFTED

    @property
    def folder_name(self) -> str:
        """The name as a folder."""
        return as_folder(self.name)


@dataclass(frozen=True)
class Row:
    """One method's results.

    Attributes:
        name: of the method.
        passes: forward passes a frame.
        num_parameters: weights of the network.
        result: its DAVIS evaluation.
        latency: time a frame against the reference's; None for the reference itself.
        seconds: median time a frame.
    """

    name: str
    passes: int
    num_parameters: int
    result: DavisResult
    latency: Latency | None
    seconds: float

    def sequence_scores(self, score: str = SCORE) -> dict[str, float]:
        """One score by sequence."""
        return {sequence.name: sequence.scores[score] for sequence in self.result.sequences}


@dataclass(frozen=True)
class Comparison:
    """All rows of a comparison.

    Attributes:
        rows: in the order of the methods.
        reference: name of the row that gains and times are relative to.
        ensemble: name of the row whose gain is the whole that shares are of.
        settings: what the numbers depend on, as plain data.
    """

    rows: tuple[Row, ...]
    reference: str
    ensemble: str | None
    settings: dict[str, Any]

    def row(self, name: str) -> Row:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)

    def gain(self, row: Row, score: str = SCORE) -> float:
        """A score less the reference's."""
        return row.result.scores[score] - self.row(self.reference).result.scores[score]

    def share(self, row: Row) -> float | None:
        """The gain as a share of the ensemble's; None for the reference, or where no ensemble gains anything."""
        if self.ensemble is None or row.name == self.reference:
            return None
        whole = self.gain(self.row(self.ensemble))
        return self.gain(row) / whole if whole > 0 else None

    def count_better(self, row: Row) -> tuple[int, int]:
        """Sequences on which a row is above the reference, and all of them."""
        reference = self.row(self.reference).sequence_scores()
        scores = row.sequence_scores()
        return sum(scores[name] > reference[name] for name in reference), len(reference)

    def verdicts(self) -> list[str]:
        """What each row but the reference gained, or that it gained nothing, in words; single passes first.

        Where the ensemble gains nothing there are no shares, which the first verdict says.
        """
        others = sorted((row for row in self.rows if row.name != self.reference), key=lambda row: row.passes)
        verdicts = [self._verdict(row) for row in others]
        if self.ensemble is not None and (whole := self.gain(self.row(self.ensemble))) <= 0:
            verdicts[0] += (
                f" {self.ensemble} itself does not gain here ({signed(whole)}), so there is no share to state."
            )
        return verdicts

    def _verdict(self, row: Row) -> str:
        gain, (better, total) = self.gain(row), self.count_better(row)
        cost = "one pass" if row.passes == 1 else f"{row.passes} passes"
        ours, theirs = row.result.scores[SCORE], self.row(self.reference).result.scores[SCORE]
        gains = ", ".join(
            f"{score[0]}\N{NO-BREAK SPACE}{signed(self.gain(row, score))}" for score in ("J-Mean", "F-Mean")
        )
        verdict = (
            f"{row.name} ({cost} a frame) {'beats' if gain > 0 else 'does not beat'} {self.reference}: J&F {ours:.3f} "
            f"against {theirs:.3f} ({signed(gain)}; {gains}), better on {better} of {total} sequences."
        )
        share = self.share(row)
        if self.ensemble is None or row.name == self.ensemble or share is None or gain <= 0:
            return verdict
        whole = signed(self.gain(self.row(self.ensemble)))
        return f"{verdict} That is {percent(share)} of the gain of {self.ensemble} ({whole})."

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [
            {
                "name": row.name,
                "scores": row.result.scores,
                "gain": self.gain(row),
                "share_of_ensemble_gain": self.share(row),
                "passes": row.passes,
                "num_parameters": row.num_parameters,
                "seconds_per_frame": row.seconds,
                "latency": asdict(row.latency) if row.latency else None,
                "sequences": {sequence.name: sequence.scores for sequence in row.result.sequences},
                "evaluation": row.result.settings,
            }
            for row in self.rows
        ]
        return {
            "verdicts": self.verdicts(),
            "reference": self.reference,
            "ensemble": self.ensemble,
            "settings": self.settings,
            "rows": rows,
        }


def as_folder(name: str) -> str:
    """A name as that of a folder: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def plain(score: float) -> str:
    """A score to three decimals, with a true minus where it is below zero."""
    return f"{score:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference of scores to three decimals, with its sign and a true minus."""
    return f"{value:+.3f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share in whole percent, with a true minus."""
    return f"{share:.0%}".replace("-", MINUS)


def check_methods(methods: Sequence[Method], reference: str | None, ensemble: str | None) -> str:
    """Refuses methods that cannot stand in one table.

    Args:
        methods: the rows.
        reference: name of the row that others are measured against; None for the first.
        ensemble: name of the row whose gain is the whole, if any.

    Returns:
        The name of the reference.

    Raises:
        ValueError: If there are fewer than two methods, two would share a folder, a name has no letter or digit, or the
            reference or ensemble is not among them.
    """
    if len(methods) < 2:
        raise ValueError(f"{len(methods)} methods given; a comparison needs at least two")
    folders = [method.folder_name for method in methods]
    for method, folder in zip(methods, folders, strict=True):
        if not folder:
            raise ValueError(f"method name {method.name!r} has no letter or digit; its folder would have no name")
        if folders.count(folder) > 1:
            raise ValueError(f"more than one method would write to folder {folder!r}; give them names that differ")
    names = [method.name for method in methods]
    for role, name in (("reference", reference), ("ensemble", ensemble)):
        if name is not None and name not in names:
            raise ValueError(f"{role} {name!r} is not among the methods {', '.join(names)}")
    return reference or names[0]
