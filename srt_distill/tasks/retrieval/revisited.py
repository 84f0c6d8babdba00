"""Landmark retrieval on revisited Oxford and Paris (Radenović et al., CVPR 2018; Table 4 of the SRT paper).

Shape legend: N gallery images, C channels, H W pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from srt_distill.images import read_image, require_readable, upright_size
from srt_distill.tasks.answer_pictures import answer_strip, square_picture
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.descriptors import Descriptor
from srt_distill.tasks.retrieval.folders import NUM_SHOWN, describe_file, patch_of, read_thumbnail
from srt_distill.tasks.retrieval.ranking import average_precision, positive_ranks, precision_at, rank_gallery
from srt_distill.tasks.retrieval.restricted_pickle import read_plain_pickle
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo, digest_files

PRECISIONS = (1, 5, 10)

PROTOCOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Medium": (("easy", "hard"), ("junk",)),
    "Hard": (("hard",), ("junk", "easy")),
    "Easy": (("easy",), ("junk", "hard")),
}
"""What counts as right, and what as junk; queries without a right answer are left out of a protocol's mean."""


@dataclass(frozen=True)
class Question:
    """A query of the benchmark.

    Attributes:
        name: Of its image, without extension.
        box: Left, top, right and bottom of the landmark, in pixels.
        easy: Gallery indices of images that show it clearly.
        hard: Those that show it badly.
        junk: Those that count neither for nor against.
    """

    name: str
    box: tuple[float, float, float, float]
    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]


@dataclass(frozen=True)
class RevisitedRetrieval(Task):
    """Landmark retrieval on revisited Oxford or Paris: mAP and mP@k under the Easy, Medium and Hard protocols.

    Args:
        root: Folder with `jpg/` and `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`.
        image_size: The longer side is shrunk to this many pixels (DINO's commands: Oxford 224, Paris 512).
        crop_queries: Crop queries to their landmark, as the benchmark demands; DINO's script, and so probably the SRT
            paper, does not.
        descriptor: `class`, the class token after the final norm; or `mean`, of the chosen map.
        multi_scale: Average over scales 1, 0.71 and 0.5 (DINO's command for Paris).
    """

    root: Path
    image_size: int = 224
    crop_queries: bool = True
    descriptor: Descriptor = "class"
    multi_scale: bool = False

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        means = [Score(f"mAP-{protocol}") for protocol in PROTOCOLS]
        precisions = [Score(f"mP@{k}-{protocol}") for protocol in PROTOCOLS for k in PRECISIONS]
        return TaskInfo(
            name=f"revisited-{self._truth_file.stem.removeprefix('gnd_')}",
            version="1",
            title="Landmark retrieval (revisited Oxford and Paris)",
            item="query",
            scores=(*means, *precisions),
            source="revisitop (Radenović et al., CVPR 2018); features as DINO's eval_image_retrieval.py",
        )

    def settings(self) -> dict[str, Any]:
        """All that outcomes depend on besides the candidate and the query: options, gallery and ground truth."""
        return super().settings() | {"gallery": self._gallery_digest}

    @cached_property
    def _gallery_digest(self) -> str:
        return digest_files([self._truth_file, *self._gallery])

    @cached_property
    def _truth_file(self) -> Path:
        found = sorted(self.root.glob("gnd_*.pkl"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise FileNotFoundError(
                f"{self.root} should hold one ground truth gnd_<data set>.pkl, such as gnd_roxford5k.pkl; it holds "
                f"{names}"
            )
        return found[0]

    @cached_property
    def _truth(self) -> tuple[list[str], list[Question]]:
        return read_ground_truth(self._truth_file)

    @cached_property
    def _gallery(self) -> list[Path]:
        return [self._file(name) for name in self._truth[0]]

    @cached_property
    def _questions(self) -> dict[str, Question]:
        return {question.name: question for question in self._truth[1]}

    def _file(self, name: str) -> Path:
        return self.root / "jpg" / f"{name}.jpg"

    def items(self) -> Sequence[Item]:
        """Read the ground truth and check that all its images are there."""
        files = [*self._gallery, *(self._file(name) for name in self._questions)]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(files)} images of {self._truth_file.name} are missing, the first is "
                f"{missing[0]}; unpack the data set's images into {self.root / 'jpg'}"
            )
        require_readable(dict.fromkeys(files))
        for question in self._questions.values() if self.crop_queries else ():
            path, (left, top, right, bottom) = self._file(question.name), (round(side) for side in question.box)
            height, width = upright_size(path)
            if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
                raise ValueError(
                    f"{self._truth_file} has box {question.box} for query {path} of {width}x{height} pixels, which "
                    "leaves nothing of it; use the images that the ground truth is of, or set crop_queries to false"
                )
        return [Item(name, (self._file(name),)) for name in self._questions]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Describe the gallery: vectors (N, C) of length 1."""
        patch = patch_of(candidate, self.descriptor)
        vectors = [
            describe_file(candidate, read_thumbnail(path, self.image_size), self.descriptor, self.multi_scale, patch)
            for path in self._gallery
        ]
        return {"gallery": torch.stack(vectors), "patch": torch.tensor(patch)}

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Rank the gallery for a query, under all protocols."""
        question = self._questions[item.name]
        image = self._read_query(question)
        query = describe_file(candidate, image, self.descriptor, self.multi_scale, int(prepared["patch"]))
        ranking = rank_gallery((prepared["gallery"].double() @ query.double()).numpy())
        numbers: dict[str, Any] = score_ranking(ranking.tolist(), question)
        junk = set(question.junk)
        answers = [int(i) for i in ranking if i not in junk][:NUM_SHOWN]
        return Outcome(numbers | {"answers": answers})

    def _read_query(self, question: Question) -> UInt8[Tensor, "1 3 H W"]:
        return read_thumbnail(self._file(question.name), self.image_size, question.box if self.crop_queries else None)

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show the query, without rows and columns that fill no patch."""
        image, patch = self._read_query(self._questions[item.name]), patch_of(candidate, self.descriptor)
        height, width = (side // patch * patch for side in image.shape[-2:])
        return image[..., :height, :width]

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Show the query, one right answer, and each candidate's first answers without junk, right ones in green."""
        question = self._questions[item.name]
        right = set(question.easy) | set(question.hard)
        pictures = {"image": square_picture(read_image(self._file(item.name)))}
        if right:
            pictures["ground truth"] = square_picture(read_image(self._gallery[min(right)]))
        for name, outcome in outcomes.items():
            answers = outcome.numbers["answers"]
            pictures[name] = answer_strip([self._gallery[i] for i in answers], [i in right for i in answers])
        return Sheet(((item.name, pictures),))

    @classmethod
    def example(cls, folder: Path) -> "RevisitedRetrieval":
        """Write six gallery images and two queries, with a ground truth in the benchmark's form."""
        write_revisited(folder)
        return cls(folder, image_size=64)


def score_ranking(ranking: Sequence[int], question: Question) -> dict[str, float]:
    """Score a ranking of the gallery under the three protocols.

    Returns:
        AP and precision at k by name of score; nan where a protocol has no right answer.
    """
    scores = {}
    for protocol, (right, dropped) in PROTOCOLS.items():
        positives = [i for kind in right for i in getattr(question, kind)]
        junk = [i for kind in dropped for i in getattr(question, kind)]
        ranks = positive_ranks(ranking, positives, junk)
        scores[f"mAP-{protocol}"] = average_precision(ranks)
        scores |= {f"mP@{k}-{protocol}": precision_at(k, ranks) for k in PRECISIONS}
    return scores


def read_ground_truth(path: Path) -> tuple[list[str], list[Question]]:
    """Read the benchmark's pickle, without running code, and check what is in it.

    Args:
        path: gnd_roxford5k.pkl or gnd_rparis6k.pkl.

    Returns:
        Names of the gallery images without extension, in the order that indices mean, and the queries.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it names anything but plain data, or is not a ground truth.
    """
    content = read_plain_pickle(path)
    try:
        gallery = [_plain_name(name) for name in content["imlist"]]
        queries = [_plain_name(name) for name in content["qimlist"]]
        questions = [
            Question(name, _box(entry["bbx"]), *(_indices(entry[kind], len(gallery)) for kind in _KINDS))
            for name, entry in zip(queries, content["gnd"], strict=True)
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{path} is no ground truth of revisited Oxford or Paris ({type(error).__name__}: {error}): it should hold "
            "imlist, qimlist and gnd, with bbx, easy, hard and junk for every query"
        ) from error
    if not queries or len(set(queries)) < len(queries):
        raise ValueError(
            f"{path} has {len(queries)} queries, {len(set(queries))} different ones; it must name each once"
        )
    if len(set(gallery)) < len(gallery):
        twice = next(name for name in gallery if gallery.count(name) > 1)
        raise ValueError(f"{path} names gallery image {twice} more than once; keep one of them")
    if not any(question.easy or question.hard for question in questions):
        raise ValueError(f"{path} has no query with an easy or hard answer, so there is nothing to find; get it anew")
    return gallery, questions


_KINDS: tuple[Literal["easy", "hard", "junk"], ...] = ("easy", "hard", "junk")


def _plain_name(name: Any) -> str:
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of an image")
    return name


def _box(values: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in values)
    if not (-math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf):
        raise ValueError(f"box {(left, top, right, bottom)} is empty or endless")
    return left, top, right, bottom


def _indices(values: Any, num_images: int) -> tuple[int, ...]:
    indices = tuple(int(value) for value in values)
    if any(not 0 <= index < num_images for index in indices):
        raise ValueError(f"index {next(i for i in indices if not 0 <= i < num_images)} of {num_images} images")
    return indices


def write_revisited(folder: Path) -> None:
    """Write a small data set in the benchmark's form: two landmarks, three gallery images and a query of each."""
    import pickle

    generator = np.random.default_rng(0)
    folder.joinpath("jpg").mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {"gallery": [], "query": []}
    for landmark, color in (("arch", (200, 140, 20)), ("tower", (20, 60, 190))):
        for index in range(4):
            part, name = ("query" if index == 3 else "gallery"), f"{landmark}_{index:06d}"
            pixels = np.clip(generator.normal(color, 30 + 20 * index, (64, 96, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "jpg" / f"{name}.jpg", quality=95)
            names[part].append(name)
    boxes = np.array([8.0, 8.0, 88.0, 56.0])
    truth = [
        {"bbx": boxes, "easy": np.array([0, 1]), "hard": np.array([2]), "junk": np.array([], dtype=int)},
        {"bbx": boxes.tolist(), "easy": [3], "hard": [4], "junk": [5]},
    ]
    content = {"imlist": names["gallery"], "qimlist": names["query"], "gnd": truth}
    (folder / "gnd_rexample.pkl").write_bytes(pickle.dumps(content, protocol=2))
