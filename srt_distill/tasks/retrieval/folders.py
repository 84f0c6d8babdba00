"""Instance retrieval in any folder of classes: a query's right answers are the gallery images of its folder.

Shape legend: N gallery images, C channels, H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from srt_distill.data.listing import find_pictures, require_filled
from srt_distill.images import read_image, require_readable
from srt_distill.tasks.answer_pictures import answer_strip, square_picture
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.canvas import find_patch
from srt_distill.tasks.descriptors import Descriptor, describe_at_scales
from srt_distill.tasks.example_instances import write_instances
from srt_distill.tasks.retrieval.ranking import average_precision, positive_ranks, rank_gallery, recall_at
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo, digest_files

SCALES = (1.0, 2**-0.5, 0.5)
"""Of multi-scale descriptors (DINO's retrieval script)."""

RECALLS = (1, 2, 4, 8)
NUM_SHOWN = 5  # answers in a picture


def read_thumbnail(path: Path, side: int, box: tuple[float, ...] | None = None) -> UInt8[Tensor, "1 3 H W"]:
    """Read an image so that its longer side is at most `side` pixels; small images stay as they are (LANCZOS).

    Args:
        path: The file.
        side: In pixels.
        box: Left, top, right and bottom of the part that is meant, in pixels of the file; None for all of it.
    """
    image = read_image(path)
    if box is not None:
        image = image.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].contiguous()


def describe_file(
    candidate: Candidate,
    image: UInt8[Tensor, "1 3 H W"],
    descriptor: Descriptor,
    multi_scale: bool,
    patch: int,
) -> Tensor:
    """Describe an image by a vector (C,) of length 1."""
    scales = SCALES if multi_scale else (1.0,)
    return F.normalize(describe_at_scales(candidate, image, descriptor, scales, patch), dim=1)[0]


def patch_of(candidate: Candidate, descriptor: Descriptor) -> int:
    """Find out what image sides must be multiples of, for a kind of descriptor."""
    if descriptor == "mean":
        return find_patch(candidate, candidate.maps)
    return find_patch(candidate, lambda images: candidate.maps_at(images, (-1,)))


@dataclass(frozen=True)
class Retrieval(Task):
    """Instance retrieval in a folder of classes: mAP and recall at k.

    Args:
        root: Folder with `gallery/<class>/` and `query/<class>/`; or with `<class>/` folders alone, of which every
            image asks for the others of its class.
        image_size: The longer side is shrunk to this many pixels.
        descriptor: `class`, the class token after the final norm; or `mean`, of the chosen map.
        multi_scale: Average over scales 1, 0.71 and 0.5.
        neighbours: Where images of a class are frames of a video: so many before and after the query count neither for
            nor against.
    """

    root: Path
    image_size: int = 224
    descriptor: Descriptor = "class"
    multi_scale: bool = False
    neighbours: int = 0

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name="retrieval",
            version="1",
            title="Instance retrieval",
            item="query",
            scores=(Score("mAP"), *(Score(f"Recall@{k}") for k in RECALLS)),
            source="a folder per instance; average precision as revisited Oxford and Paris take it",
        )

    def settings(self) -> dict[str, Any]:
        """All that outcomes depend on besides the candidate and the query: options and the gallery's files."""
        names = [str(path.relative_to(self.root)) for path in self._gallery]
        return super().settings() | {"gallery": self._gallery_digest, "gallery_names": names}

    @cached_property
    def _gallery_digest(self) -> str:
        return digest_files(self._gallery)

    @cached_property
    def _has_queries(self) -> bool:
        if not self.root.is_dir():
            raise FileNotFoundError(f"folder {self.root} does not exist; give one with gallery/ and query/, or classes")
        found = [name for name in ("gallery", "query") if (self.root / name).is_dir()]
        if len(found) == 1:
            raise FileNotFoundError(
                f"{self.root} has {found[0]}/ but not its counterpart; retrieval needs gallery/<class>/ and "
                "query/<class>/, or <class>/ folders alone"
            )
        return bool(found)

    @cached_property
    def _gallery(self) -> list[Path]:
        return _classified(self.root / "gallery" if self._has_queries else self.root)

    @cached_property
    def _queries(self) -> list[Path]:
        if self._has_queries:
            return _classified(self.root / "query")
        counts = _count(path.parent.name for path in self._gallery)
        return [path for path in self._gallery if counts[path.parent.name] > 1]

    @cached_property
    def _names(self) -> dict[str, Path]:
        base = self.root / "query" if self._has_queries else self.root
        return {path.relative_to(base).as_posix(): path for path in self._queries}

    def items(self) -> Sequence[Item]:
        """Find the images, and check that every query has an answer.

        Raises:
            FileNotFoundError: If folders are missing or hold no image.
            ValueError: If a query's class is not in the gallery, which has one class only, or no class has two images.
            OSError: If an image is damaged.
        """
        if self.neighbours < 0 or self.image_size < 1:
            raise ValueError(
                f"neighbours {self.neighbours} and image_size {self.image_size}: neither may be negative, nor the size "
                "0"
            )
        known = {path.parent.name for path in self._gallery}
        for path in self._queries:
            if path.parent.name not in known:
                raise ValueError(
                    f"query {path} is of class {path.parent.name!r}, which the gallery lacks; it has "
                    f"{', '.join(sorted(known)[:8])}{', …' if len(known) > 8 else ''}"
                )
        if not self._queries:
            raise ValueError(f"no folder of {self.root} holds two images or more, so there is nothing to ask for")
        if len(known) < 2:
            raise ValueError(
                f"all images of {self.root} are of class {known.pop()!r}, so that every answer is right; add other "
                "classes, or give the folder above"
            )
        require_readable(dict.fromkeys((*self._gallery, *self._queries)))
        return [Item(name, (path,)) for name, path in self._names.items()]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Describe the gallery: vectors (N, C) of length 1."""
        patch = patch_of(candidate, self.descriptor)
        vectors = [self._describe(candidate, path, patch) for path in self._gallery]
        return {"gallery": torch.stack(vectors), "patch": torch.tensor(patch)}

    def _describe(self, candidate: Candidate, path: Path, patch: int) -> Tensor:
        image = read_thumbnail(path, self.image_size)
        return describe_file(candidate, image, self.descriptor, self.multi_scale, patch)

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Rank the gallery for a query."""
        path = self._names[item.name]
        if self._has_queries:
            query, junk = self._describe(candidate, path, int(prepared["patch"])), []
        else:
            own = self._gallery.index(path)
            query, junk = prepared["gallery"][own], self._near(own)
        ranking = rank_gallery((prepared["gallery"].double() @ query.double()).numpy())
        positives = [i for i, other in enumerate(self._gallery) if other.parent.name == path.parent.name]
        ranks = positive_ranks(ranking.tolist(), set(positives) - set(junk), junk)
        answers = [int(i) for i in ranking if i not in junk][:NUM_SHOWN]
        recalls = {f"Recall@{k}": recall_at(k, ranks) for k in RECALLS}
        shown = [self._gallery[i].relative_to(self.root).as_posix() for i in answers]
        return Outcome({"mAP": average_precision(ranks), **recalls, "ranks": ranks, "answers": shown})

    def _near(self, own: int) -> list[int]:
        """Find the query itself and its neighbours in its class."""
        reach = range(max(0, own - self.neighbours), min(len(self._gallery), own + self.neighbours + 1))
        return [i for i in reach if self._gallery[i].parent == self._gallery[own].parent]

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show the query, without rows and columns that fill no patch."""
        image, patch = read_thumbnail(self._names[item.name], self.image_size), patch_of(candidate, self.descriptor)
        height, width = (side // patch * patch for side in image.shape[-2:])
        return image[..., :height, :width]

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Show the query, one right answer, and each candidate's first answers, right ones framed in green."""
        path = self._names[item.name]
        right = next(p for p in self._gallery if p.parent.name == path.parent.name and p != path)
        pictures = {
            "image": square_picture(read_image(path)),
            "ground truth": square_picture(read_image(right)),
        }
        for name, outcome in outcomes.items():
            files = [self.root / answer for answer in outcome.numbers["answers"]]
            pictures[name] = answer_strip(files, [file.parent.name == path.parent.name for file in files])
        return Sheet(((path.parent.name, pictures),))

    @classmethod
    def example(cls, folder: Path) -> "Retrieval":
        """Write three instances of one colour each, two gallery images and a query of every one."""
        write_instances(folder, ("gallery", "gallery", "query"))
        return cls(folder, image_size=64)


def _classified(root: Path) -> list[Path]:
    """List pictures that lie in a folder of their class, `<class>/…/<picture>` flattened to `<class>/<picture>`."""
    names = find_pictures(root, recursive=True)
    paths = [root / name for name in names]
    loose = [path for path in paths if path.parent == root]
    if loose or not paths:
        what = f"{loose[0]} lies in no class's folder" if loose else f"there is no picture below {root}"
        raise FileNotFoundError(f"{what}; put images into a folder per class: {root}/<class>/<image>")
    deep = next((path for path in paths if path.parent.parent != root), None)
    if deep is not None:
        raise ValueError(
            f"{deep} lies more than one folder below {root}; a class is one folder: {root}/<class>/<image>"
        )
    require_filled(root, names)
    return paths


def _count(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
