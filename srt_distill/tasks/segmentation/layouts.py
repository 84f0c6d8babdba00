"""Images and label images on disk, in the layouts of the field.

Shape legend: none.

- lists: `train.txt` and `test.txt` (or `val.txt`) with a line `image label` per pair, and `classes.txt` with a name per
  line for the values 0, 1, …, as CamVid of SegNet comes.
- folders: `train/images`, `train/labels` and the same of `test` (or `val`), files of the same stem; `classes.txt`.
- ade20k: `images/training`, `annotations/training` and `validation` of both; 0 is void, 1 to 150 are classes, named by
  `objectInfo150.txt` if it is there.
- instances: `train.csv` and `test.csv` with a column `name`, `train/images`, `train/masks` …: masks of numbered
  objects, of which everything above 0 is one class. Nuclei of the Data Science Bowl 2018 come so.

255 is void unless a class has that value; so is a class named Void, Unlabelled or the like.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np

from srt_distill.data.lists import read_text
from srt_distill.images import require_readable, upright_size
from srt_distill.tasks.segmentation.labels import VOID, LabelRule

Layout = Literal["auto", "lists", "folders", "ade20k", "instances"]
"""How data lie in a folder; `auto` sees which it is."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
ADE_CLASSES = 150


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels.

    Attributes:
        name: Unique in its split.
        image: The photograph.
        labels: Its label image.
    """

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Two splits and what their labels mean.

    Attributes:
        train: What heads or memories are made of.
        test: What is judged.
        rule: Stored values to classes.
    """

    train: Sequence[LabelledImage]
    test: Sequence[LabelledImage]
    rule: LabelRule

    def check(self) -> None:
        """Read every image and label image.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a label image has another size than its image or an unknown value, a tested class is
                nowhere in training, or there are fewer than two classes to tell apart.
        """
        require_readable(pair.image for pair in (*self.train, *self.test))
        tested: set[int] = set()
        with ThreadPoolExecutor() as threads:
            seen: set[int] = set().union(*threads.map(self._classes_in, self.train))
            for pair, classes in zip(self.test, threads.map(self._classes_in, self.test), strict=True):
                if unseen := classes - seen:
                    raise ValueError(
                        f"{pair.labels} has class {self.rule.classes[min(unseen)]!r}, which no training label has; "
                        "it cannot be learnt: add training images with it, or make it void"
                    )
                tested |= classes
        if len(seen) < 2:
            shown = ", ".join(self.rule.classes[label] for label in seen) or "no class"
            raise ValueError(
                f"training labels such as {self.train[0].labels} show {shown} alone; two classes or more must be told "
                "apart: check what the values of label images mean"
            )
        if not tested:
            raise ValueError(f"all test labels, such as {self.test[0].labels}, are void; label what is to be judged")

    def _classes_in(self, pair: LabelledImage) -> set[int]:
        labels = self.rule.read(pair.labels)
        if labels.shape != (size := upright_size(pair.image)):
            raise ValueError(
                f"{pair.labels} is {labels.shape[1]}x{labels.shape[0]} pixels, its image {size[1]}x{size[0]}; "
                "bring both to one size first"
            )
        return set(np.unique(labels).tolist()) - {VOID}


def open_data(root: Path, layout: Layout = "auto") -> SegmentationData:
    """Find images and labels; nothing is decoded yet.

    Args:
        root: Folder of the data.
        layout: How they lie in it.

    Raises:
        FileNotFoundError: If the layout is not to be seen, or a file is missing.
        ValueError: If a split is empty, names clash or a list cannot be understood.
    """
    chosen = (
        layout
        if layout != "auto"
        else next((name for name, (mark, _) in _OPENERS.items() if (root / mark).exists()), None)
    )
    if chosen is None:
        there = ", ".join(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
        marks = ", ".join(f"{mark} ({name})" for name, (mark, _) in _OPENERS.items())
        raise FileNotFoundError(
            f"no labelled images in {root}: none of {marks} is there; it holds: {there or 'nothing'}"
        )
    data = _OPENERS[chosen][1](root)
    for split, pairs in (("training", data.train), ("test", data.test)):
        if not pairs:
            raise ValueError(f"{root} has no {split} image (layout {chosen})")
        names = [pair.name for pair in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{root} has two {split} images named {twice}; each needs a name of its own")
        for pair in pairs:
            for path in (pair.image, pair.labels):
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is missing ({split} image {pair.name} of {root}, layout {chosen})")
    return data


def _open_lists(root: Path) -> SegmentationData:
    train, test = (_read_list(_first(root, names, ".txt")) for names in (("train",), ("test", "val")))
    return SegmentationData(train, test, _named_classes(root))


def _read_list(path: Path) -> list[LabelledImage]:
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{path}, line {number}: {line!r} is not 'image label'; write both, relative to the list")
        image, labels = (path.parent / word.lstrip("/") for word in words)
        pairs.append(LabelledImage(image.stem, image, labels))
    return pairs


def _open_folders(root: Path) -> SegmentationData:
    train, test = (
        _same_stems(split / "images", split / "labels")
        for split in (_first(root, names, "") for names in (("train",), ("test", "val")))
    )
    return SegmentationData(train, test, _named_classes(root))


def _open_ade20k(root: Path) -> SegmentationData:
    train, test = (
        _same_stems(root / "images" / split, root / "annotations" / split) for split in ("training", "validation")
    )
    names, info = [f"class {value}" for value in range(1, ADE_CLASSES + 1)], root / "objectInfo150.txt"
    if info.is_file():
        names = [name.split(",")[0].strip() for name in _read_column(info, "Name", "\t")]
    return SegmentationData(train, test, LabelRule(tuple(names), {0: VOID, **{v + 1: v for v in range(len(names))}}))


def _open_instances(root: Path) -> SegmentationData:
    train, test = (_read_names(root, split) for split in ("train", "test"))
    return SegmentationData(train, test, LabelRule(("background", "object"), {0: 0}, others=1))


def _read_names(root: Path, split: str) -> list[LabelledImage]:
    path = _first(root, (split,), ".csv")
    names = _read_column(path, "name", ",")
    return [LabelledImage(n, root / split / "images" / f"{n}.png", root / split / "masks" / f"{n}.png") for n in names]


def _read_column(path: Path, column: str, delimiter: str) -> list[str]:
    rows = csv.DictReader(StringIO(read_text(path), newline=""), delimiter=delimiter)
    try:
        if column not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has columns {rows.fieldnames}; one must be {column!r}")
        values = [row[column] for row in rows]
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: {error}; give a table with a column {column!r}") from error
    if not all(values):
        number = next(number for number, value in enumerate(values, start=1) if not value)
        raise ValueError(f"{path} has no {column!r} in row {number}; fill it in, or remove the row")
    return values


def _same_stems(images: Path, labels: Path) -> list[LabelledImage]:
    for folder in (images, labels):
        if not folder.is_dir():
            raise FileNotFoundError(f"folder {folder} is missing")
    found = [
        LabelledImage(path.stem, path, labels / f"{path.stem}.png")
        for path in sorted(images.iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    ]
    stems = {pair.name for pair in found}
    for path in sorted(labels.glob("[!.]*.png")):
        if path.stem not in stems:
            endings = ", ".join(IMAGE_ENDINGS)
            raise FileNotFoundError(f"{path} has no image {images / path.stem} ({endings}); add it, or remove both")
    return found


def _named_classes(root: Path) -> LabelRule:
    path = root / "classes.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write the names of the classes, one per line, for values 0, 1, …")
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    classes = tuple(name for name in names if name.lower() not in VOID_NAMES)
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f"{path} names class {twice!r} more than once; each value needs a name of its own")
    meaning: dict[int, int] = {255: VOID}
    for value, name in enumerate(names):
        meaning[value] = classes.index(name) if name in classes else VOID
    return LabelRule(classes, meaning)


def _first(root: Path, names: Sequence[str], ending: str) -> Path:
    paths = [root / f"{name}{ending}" for name in names]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise FileNotFoundError(f"{' or '.join(map(str, paths))} is missing")
    return found


_OPENERS: Mapping[str, tuple[str, Callable[[Path], SegmentationData]]] = {
    "ade20k": ("annotations", _open_ade20k),
    "lists": ("train.txt", _open_lists),
    "instances": ("train.csv", _open_instances),
    "folders": ("train/images", _open_folders),
}
