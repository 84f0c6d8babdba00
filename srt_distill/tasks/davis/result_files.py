"""What a DAVIS evaluation leaves behind: scores as data, palette PNGs, the two official tables, finished sequences.

Shape legend: H W pixels.
"""

import csv
import hashlib
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from srt_distill.files import write_file
from srt_distill.tasks.davis.sequence_scores import SCORE_NAMES, Statistics, pool
from srt_distill.visualization.overlays import object_palette

FINISHED = "scores.json"  # in a sequence's folder: its scores and the settings they hold for, written last


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object over its sequence."""

    object_id: int
    j: Statistics
    f: Statistics


@dataclass(frozen=True)
class SequenceResult:
    """Scores of one sequence.

    Attributes:
        name: Of the sequence.
        num_frames: All its frames, the first and last (not scored) included.
        input_size: Rows and columns of the network's input; None where masks were read instead of made.
        objects: Scores by object.
        seconds_per_frame: Median time of one feature extraction while nothing else ran; None where masks were read.
    """

    name: str
    num_frames: int
    input_size: tuple[int, int] | None
    objects: tuple[ObjectScores, ...]
    seconds_per_frame: float | None

    @property
    def scores(self) -> dict[str, float]:
        """The official global scores over the objects of this sequence alone."""
        return pool([(item.j, item.f) for item in self.objects])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SequenceResult":
        """Rebuild from `dataclasses.asdict`, also after a round through JSON."""
        return cls(
            name=data["name"],
            num_frames=data["num_frames"],
            input_size=None if data["input_size"] is None else (data["input_size"][0], data["input_size"][1]),
            objects=tuple(
                ObjectScores(item["object_id"], Statistics(**item["j"]), Statistics(**item["f"]))
                for item in data["objects"]
            ),
            seconds_per_frame=data["seconds_per_frame"],
        )


@dataclass(frozen=True)
class DavisResult:
    """Scores of an evaluation.

    Attributes:
        settings: What the masks depend on, as plain data.
        sequences: Scores by sequence.
    """

    settings: dict[str, Any]
    sequences: tuple[SequenceResult, ...]

    @property
    def scores(self) -> dict[str, float]:
        """The official global scores: averages over all objects of all sequences."""
        return pool([(item.j, item.f) for sequence in self.sequences for item in sequence.objects])

    @property
    def seconds_per_frame(self) -> float | None:
        """Median over sequences of the time of one feature extraction; None where not measured."""
        timed = [item.seconds_per_frame for item in self.sequences if item.seconds_per_frame is not None]
        return statistics.median(timed) if timed else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the global scores included."""
        return {
            "scores": self.scores,
            "seconds_per_frame": self.seconds_per_frame,
            "settings": self.settings,
            "sequences": [asdict(sequence) for sequence in self.sequences],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DavisResult":
        """Rebuild from `to_dict`, also after a round through JSON."""
        return cls(data["settings"], tuple(SequenceResult.from_dict(item) for item in data["sequences"]))


def write_mask(path: Path, ids: UInt8[np.ndarray, "H W"]) -> None:
    """Write object ids as a palette PNG."""
    image = Image.fromarray(ids)
    image.putpalette(object_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_file(path, buffer.getvalue())


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Hash of settings given as plain data; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


def write_finished(folder: Path, digest: str, result: SequenceResult) -> None:
    """Mark a sequence as finished under these settings; to be called when its masks are all written."""
    content = {"settings_digest": digest, "result": asdict(result)}
    write_file(folder / FINISHED, json.dumps(content, indent=1))


def read_finished(folder: Path, digest: str, mask_names: Sequence[str]) -> SequenceResult | None:
    """Scores of a finished sequence; None where it is unfinished, lacks masks or was made under other settings."""
    try:
        content = json.loads((folder / FINISHED).read_text())
        if content["settings_digest"] != digest or not all((folder / name).is_file() for name in mask_names):
            return None
        return SequenceResult.from_dict(content["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_tables(folder: Path, split: str, result: DavisResult) -> None:
    """The two official tables, under the names and columns of davis2017-evaluation, three decimals."""
    scores = result.scores
    overall = [list(SCORE_NAMES), [f"{scores[name]:.3f}" for name in SCORE_NAMES]]
    by_object = [["Sequence", "J-Mean", "F-Mean"]]
    for sequence in result.sequences:
        for item in sequence.objects:
            by_object.append([f"{sequence.name}_{item.object_id}", f"{item.j.mean:.3f}", f"{item.f.mean:.3f}"])
    for name, rows in (("global_results", overall), ("per-sequence_results", by_object)):
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        write_file(folder / f"{name}-{split}.csv", buffer.getvalue())
