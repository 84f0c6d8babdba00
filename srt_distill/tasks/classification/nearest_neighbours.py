"""kNN classification, DINO's protocol (Caron et al., 2021): no training, one vector per image.

Shape legend: N labelled images, C channels, K classes, H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from srt_distill.tasks.answer_pictures import framed
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.classification.labelled_images import LabelledImages, digest_of, drop_duplicates, open_labelled
from srt_distill.tasks.classification.preprocessing import resize_and_crop
from srt_distill.tasks.descriptors import Descriptor, describe_images
from srt_distill.tasks.example_instances import write_instances
from srt_distill.tasks.retrieval.ranking import rank_gallery
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo

NUM_SHOWN = 4  # neighbours in a picture
BATCH = 16  # images that are described together


@dataclass(frozen=True)
class NearestNeighbours(Task):
    """kNN classification: every image gets the class of its nearest labelled images.

    Args:
        root: Folder with `<train_split>/<class>/` and `<test_split>/<class>/`, or a Hugging Face data set with these
            splits. With `leave_one_out` a folder of classes is enough, or the test split alone.
        train_split: Whose images vote.
        test_split: Whose images are classified.
        leave_one_out: Classify every image by all others of the test split; files of equal content count once.
        k: Neighbours that vote (DINO: 10, 20, 100 and 200, of which 20 is the best on ImageNet).
        temperature: Of the votes, exp(similarity / T).
        descriptor: `class`, the class token after the final norm; or `mean`, of the chosen map.
        resize: Shorter side in pixels before cropping; null for none.
        crop: Side of the central square in pixels; null for all of the image, all of one size then.
    """

    root: Path
    train_split: str = "train"
    test_split: str = "val"
    leave_one_out: bool = False
    k: int = 20
    temperature: float = 0.07
    descriptor: Descriptor = "class"
    resize: int | None = 256
    crop: int | None = 224

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name="knn",
            version="1",
            title="kNN classification",
            item="image",
            scores=(Score("top-1"), Score("top-5")),
            source="DINO's eval_knn.py (Caron et al., 2021); votes tie by class index",
        )

    def settings(self) -> dict[str, Any]:
        """All that outcomes depend on besides the candidate and the image: options and the labelled images."""
        labelled = {"labelled": digest_of(self._train, self._voters), "classes": list(self._train.classes)}
        table = {} if self._test.files[0] else {"table": self._test.digest}
        return super().settings() | labelled | table

    @cached_property
    def _test(self) -> LabelledImages:
        return open_labelled(self.root, self.test_split)

    @cached_property
    def _train(self) -> LabelledImages:
        if self.leave_one_out:
            return self._test
        if self.root.is_dir() and not (self.root / self.train_split).is_dir() and self._test.files[0]:
            raise FileNotFoundError(
                f"{self.root} has no folder {self.train_split}/ of labelled images; add one, name it with train_split, "
                "or set leave_one_out to classify every image by all others"
            )
        return open_labelled(self.root, self.train_split)

    @cached_property
    def _voters(self) -> list[int]:
        """Labelled images that vote."""
        labelled = [i for i, label in enumerate(self._train.labels) if label is not None]
        if not self.leave_one_out:
            return labelled
        distinct = set(drop_duplicates(self._train))
        return [index for index in labelled if index in distinct]

    @cached_property
    def _index(self) -> dict[str, int]:
        asked = self._voters if self.leave_one_out else range(len(self._test))
        return {self._test.names[index]: index for index in asked}

    def items(self) -> Sequence[Item]:
        """Find the images, and check that they can be classified.

        Raises:
            FileNotFoundError: If a folder is missing or holds no picture.
            ValueError: If there are fewer labelled images than neighbours wanted, or an image's class is unknown.
        """
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} is not above 0; DINO's is 0.07")
        available = len(self._voters) - self.leave_one_out
        if not 1 <= self.k <= available:
            raise ValueError(
                f"k {self.k} neighbours of {available} labelled images cannot be taken; use 1 to {available}"
            )
        known = {self._train.class_name(self._train.labels[index]) for index in self._voters}
        for name, index in self._index.items():
            wanted = self._test.class_name(self._test.labels[index])
            if self._test.labels[index] is None:
                raise ValueError(f"image {name} of {self.root} has no class; put it into its class's folder")
            if wanted not in known:
                raise ValueError(
                    f"image {name} is of class {wanted!r}, of which there is no labelled image in "
                    f"{self.root / self.train_split}; it could never be right"
                )
        if len(known) < 2:
            raise ValueError(
                f"all labelled images of {self.root} are of class {known.pop()!r}, so that every answer is right; add "
                "other classes"
            )
        self._train.require_readable(self._voters)
        if not self.leave_one_out:
            self._test.require_readable(self._index.values())
        return [Item(name, self._test.files[index]) for name, index in self._index.items()]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Describe the labelled images: vectors (N, C) of length 1, and their classes (N,)."""
        vectors = []
        batch = BATCH if self.crop is not None else 1
        for start in range(0, len(self._voters), batch):
            chosen = self._voters[start : start + batch]
            images = torch.cat([self._image(self._train, index) for index in chosen])
            vectors.append(F.normalize(describe_images(candidate, images, self.descriptor), dim=1))
        labels = torch.tensor([self._train.labels[index] for index in self._voters])
        return {"vectors": torch.cat(vectors), "labels": labels}

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Let an image's neighbours vote."""
        index, own = self._index[item.name], None
        if self.leave_one_out:
            own = self._voters.index(index)
            query = prepared["vectors"][own]
        else:
            images = self._image(self._test, index)
            query = F.normalize(describe_images(candidate, images, self.descriptor), dim=1)[0]
        similarities = (prepared["vectors"].double() @ query.double()).numpy()
        neighbours = nearest(similarities, self.k, own)
        ranked = vote(similarities[neighbours], prepared["labels"].numpy()[neighbours], self.temperature)
        said = [self._train.class_name(int(label)) for label in ranked]
        wanted = self._test.class_name(self._test.labels[index])
        nearby = [self._train.names[self._voters[i]] for i in neighbours[:NUM_SHOWN]]
        right = {f"top-{n}": float(wanted in said[:n]) for n in (1, 5)}
        return Outcome({**right, "predicted": said[0], "neighbours": nearby})

    def _image(self, images: LabelledImages, index: int) -> UInt8[Tensor, "1 3 H W"]:
        return resize_and_crop(images.read(index), self.resize, self.crop)

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show the image as it is described."""
        return self._image(self._test, self._index[item.name])

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Show the image, and each candidate's nearest neighbours, those of the right class framed in green."""
        index = self._index[item.name]
        number = {name: i for i, name in enumerate(self._train.names)}
        wanted = self._test.class_name(self._test.labels[index])
        pictures = {"image": _small(self._test, index)}
        for name, outcome in outcomes.items():
            found = [number[neighbour] for neighbour in outcome.numbers["neighbours"]]
            right = [self._train.class_name(self._train.labels[i]) == wanted for i in found]
            strip = [framed(_small(self._train, i), ok) for i, ok in zip(found, right, strict=True)]
            pictures[name] = np.concatenate(strip, axis=1)
        said = ", ".join(f"{name}: {outcome.numbers['predicted']}" for name, outcome in outcomes.items())
        return Sheet(((f"{wanted}; {said}", pictures),))

    @classmethod
    def example(cls, folder: Path) -> "NearestNeighbours":
        """Write three classes of one colour each, two images of every one to vote and one to classify."""
        write_instances(folder, ("train", "train", "val"))
        return cls(folder, k=2, resize=None, crop=64)


def nearest(similarities: Float[np.ndarray, " N"], k: int, own: int | None = None) -> Int[np.ndarray, " k"]:
    """Find the k most similar images, of equally similar ones those of lower index.

    Args:
        similarities: To each labelled image.
        k: How many.
        own: Index of the image itself among them, which is left out whatever its similarity.
    """
    order = rank_gallery(similarities)
    return (order if own is None else order[order != own])[:k]


def vote(
    similarities: Float[np.ndarray, " k"], labels: Int[np.ndarray, " k"], temperature: float
) -> Int[np.ndarray, " _K"]:
    """Rank classes by the votes of neighbours, exp(similarity / T) each; of equal classes the lower index first.

    Args:
        similarities: Of the neighbours.
        labels: Their classes.
        temperature: T.

    Returns:
        The classes that got a vote, the most first.
    """
    weights = np.exp((similarities - similarities.max()) / temperature)
    totals = np.bincount(labels, weights=weights)
    present = np.unique(labels)
    return present[np.argsort(-totals[present], kind="stable")]


def _small(images: LabelledImages, index: int) -> UInt8[np.ndarray, "_ _ 3"]:
    return np.ascontiguousarray(resize_and_crop(images.read(index), 112, 112)[0].permute(1, 2, 0).numpy())
