"""Images with a class each: a folder of classes, or a Hugging Face data set.

Shape legend: none.
"""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from srt_distill.data.hugging_face import reaching
from srt_distill.data.listing import find_pictures, require_filled
from srt_distill.data.lists import read_text
from srt_distill.images import decode, read_image, require_readable, to_rgb, unreadable_as_os_error
from srt_distill.tasks.task import digest_files

CLASSES_FILE = "classes.txt"


class LabelledImages(ABC):
    """Images, each with a name and perhaps a class.

    Attributes:
        names: Of the images, unique.
        labels: Index of each image's class; None without one.
        classes: Names of the classes by index.
        files: Files that each image's outcome depends on; empty for rows of a table, for which `digest` stands.
    """

    names: list[str]
    labels: list[int | None]
    classes: tuple[str, ...]
    files: list[tuple[Path, ...]]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """Decode an image, upright and in RGB.

        Raises:
            OSError: If it cannot be read.
        """

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """Hash the bytes of an image, before decoding."""

    @abstractmethod
    def require_readable(self, indices: Iterable[int]) -> None:
        """Decode images and forget them.

        Raises:
            OSError: If one cannot be read; names the first.
        """

    @cached_property
    def digest(self) -> str:
        """Hash of all images and labels, in order."""
        state = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            state.update(f"{name}\0{label}\0{self.fingerprint(index)}\n".encode("utf-8", "surrogateescape"))
        return state.hexdigest()

    def class_name(self, label: int | None) -> str:
        """Name a class; of an image without one, or a class without a name, say so by its number."""
        if label is None:
            return "unlabelled"
        return self.classes[label] if label < len(self.classes) else f"class {label}"


class ClassFolder(LabelledImages):
    """Pictures in a folder per class; or, without labels, pictures in one folder.

    Classes are the folders in natural order. A file `classes.txt` beside them, a name per line, sets the order instead,
    and may name more classes than there are folders: for a classifier that knows more.

    Args:
        root: The folder.

    Raises:
        FileNotFoundError: If it is missing or holds no picture.
        ValueError: If some pictures lie in folders and others do not, or a folder holds none or is not among the named
            classes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.names = find_pictures(root, recursive=True)
        if not self.names:
            raise FileNotFoundError(f"there is no picture below {root}; put images into a folder per class")
        folders = [name.rpartition("/")[0] for name in self.names]
        if any(folders) and not all(folders):
            loose = self.names[folders.index("")]
            raise ValueError(f"{root / loose} lies in no class's folder, and others do; move it into one")
        found = tuple(dict.fromkeys(folders)) if all(folders) else ()
        if found:
            require_filled(root, self.names)
        self.classes = read_classes(root / CLASSES_FILE) if (root / CLASSES_FILE).is_file() else found
        unknown = [name for name in found if name not in self.classes]
        if unknown:
            raise ValueError(
                f"folder {root / unknown[0]} is not among the classes of {root / CLASSES_FILE}; add it there"
            )
        index_of = {name: index for index, name in enumerate(self.classes)}
        self.labels = [index_of.get(folder) if folder else None for folder in folders]
        self.files = [(root / name,) for name in self.names]

    def read(self, index: int) -> Image.Image:
        """Decode an image, upright and in RGB."""
        return read_image(self._root / self.names[index])

    def fingerprint(self, index: int) -> str:
        """Hash the content of a file."""
        return hashlib.sha256((self._root / self.names[index]).read_bytes()).hexdigest()

    def require_readable(self, indices: Iterable[int]) -> None:
        """Decode images and forget them."""
        require_readable(self._root / self.names[index] for index in indices)


class LabelledTable(LabelledImages):
    """Rows of a Hugging Face data set: one column of images, one of class numbers.

    Args:
        root: A folder of Parquet or Arrow files or written by `save_to_disk`, one Parquet file, or a name on the hub.
        split: Which split of it; of a single file there is one.
        num_images: First rows that are taken; None for all.

    Raises:
        ValueError: If there is no such split, or no column of images and one of whole numbers.
        FileNotFoundError: If the name is neither a local path nor on the hub.
    """

    def __init__(self, root: Path, split: str, num_images: int | None = None) -> None:
        import datasets

        rows: Any = _load_rows(root, split)
        features = rows.features
        pictures = [name for name, kind in features.items() if _holds_images(kind)]
        numbers = [name for name, kind in features.items() if _holds_classes(kind)]
        labels = [name for name in numbers if isinstance(features[name], datasets.ClassLabel)] or [
            name for name in ("label", "labels") if name in numbers
        ]
        if not pictures or not labels:
            raise ValueError(
                f"{root} has columns {', '.join(features)}; classification needs one of images and one of class "
                "numbers, a ClassLabel or named 'label'"
            )
        if num_images is not None:
            if num_images < 1:
                raise ValueError(f"num_images {num_images} leaves no row of {root}; give 1 or more, or leave it out")
            rows = rows.select(range(min(num_images, len(rows))))
        if not len(rows):
            raise ValueError(f"{root} has no row in split {split!r}; give a data set with images")
        rows = rows.select_columns([pictures[0], labels[0]]).cast_column(pictures[0], datasets.Image(decode=False))
        kind = features[labels[0]]
        self.classes = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else ()
        given = rows[labels[0]]
        self.labels = [int(label) if label is not None and label >= 0 else None for label in given]
        beyond = [label for label in self.labels if label is not None and self.classes and label >= len(self.classes)]
        if beyond:
            raise ValueError(f"{root} has label {beyond[0]}, and its classes are 0 to {len(self.classes) - 1}; mend it")
        width = len(str(len(rows)))
        self.names = [f"{split}-{index:0{width}d}" for index in range(len(rows))]
        self.files = [()] * len(rows)
        self._root, self._rows, self._column = root, rows, pictures[0]

    def read(self, index: int) -> Image.Image:
        """Decode the image of a row, upright and in RGB."""
        with unreadable_as_os_error(self.names[index]), Image.open(io.BytesIO(self._bytes(index))) as image:
            return to_rgb(image, self.names[index])

    def fingerprint(self, index: int) -> str:
        """Hash the bytes of a row's image."""
        return hashlib.sha256(self._bytes(index)).hexdigest()

    def require_readable(self, indices: Iterable[int]) -> None:
        """Decode images and forget them."""
        for index in indices:
            name = f"{self.names[index]} of {self._root}"
            with unreadable_as_os_error(name), Image.open(io.BytesIO(self._bytes(index))) as image:
                decode(image)

    def _bytes(self, index: int) -> bytes:
        cell = self._rows[index][self._column]
        if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
            raise OSError(f"{self.names[index]} holds no image; leave that row out")
        return cell["bytes"] if cell.get("bytes") is not None else Path(cell["path"]).read_bytes()


def open_labelled(root: Path, split: str, num_images: int | None = None) -> LabelledImages:
    """Open images with classes, whatever they lie in.

    Args:
        root: A folder of classes, perhaps one folder further down, in `<split>/`; or a Hugging Face data set, as
            `LabelledTable` takes it.
        split: Which part of it.
        num_images: First rows of a data set that are taken; a folder of classes is taken whole.

    Raises:
        FileNotFoundError: If there is nothing there.
        ValueError: If it is neither, or it cannot be cut to `num_images`.
    """
    if is_table(root):
        return LabelledTable(root, split, num_images)
    if num_images is not None:
        raise ValueError(f"num_images {num_images} is for rows of a data set, and {root} is a folder; leave it out")
    return ClassFolder(root / split if (root / split).is_dir() else root)


def is_table(root: Path) -> bool:
    """Tell a Hugging Face data set from a folder of pictures by its files; what is no folder is a file or a name."""
    if not root.is_dir():
        return True
    marks = ("dataset_dict.json", "state.json")
    return any((root / mark).is_file() for mark in marks) or any(
        next(root.rglob(pattern), None) is not None for pattern in ("*.parquet", "*.arrow")
    )


def read_classes(path: Path) -> tuple[str, ...]:
    """Read names of classes, one per line, in order.

    Raises:
        ValueError: If there is none, or one twice.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), "no name at all")
        raise ValueError(f"{path} should hold every class's name once, one per line; it has {twice!r}")
    return tuple(names)


def drop_duplicates(images: LabelledImages) -> list[int]:
    """Find the images whose bytes no earlier one has, in order."""
    seen: dict[str, int] = {}
    for index in range(len(images)):
        seen.setdefault(images.fingerprint(index), index)
    return list(seen.values())


def digest_of(images: LabelledImages, indices: Sequence[int]) -> str:
    """Hash some images: files by content, rows with all of their table."""
    if images.files[0]:
        return digest_files(path for index in indices for path in images.files[index])
    return images.digest


def _load_rows(root: Path, split: str) -> Any:
    import datasets

    if root.suffix == ".parquet":
        import pyarrow.parquet

        if not root.is_file():
            raise FileNotFoundError(f"there is no file {root}; check the path")
        return datasets.Dataset(pyarrow.parquet.read_table(root))
    saved = any((root / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    try:
        with reaching(str(root)):
            loaded: Any = datasets.load_from_disk(str(root)) if saved else datasets.load_dataset(str(root), split=split)
    except OSError as error:
        if root.exists():
            raise
        raise FileNotFoundError(
            f"there is no folder {root}, and no data set of this name ({error}); check the path"
        ) from error
    except (ValueError, LookupError) as error:
        raise ValueError(f"cannot load split {split!r} of {root}: {error}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise ValueError(f"unknown split {split!r} of {root}; it has {', '.join(map(str, loaded))}")
        loaded = loaded[split]
    return loaded


def _holds_images(kind: Any) -> bool:
    import datasets

    return isinstance(kind, datasets.Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"})


def _holds_classes(kind: Any) -> bool:
    import datasets

    return isinstance(kind, datasets.ClassLabel) or getattr(kind, "dtype", "").startswith(("int", "uint"))
