"""Images of a Hugging Face dataset, from the hub, from a local folder or from one table."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from srt_distill.data.source import ImageSource
from srt_distill.hub import fetching
from srt_distill.images import to_rgb, unreadable_as_os_error

if TYPE_CHECKING:
    import datasets

TABLES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".tar": "webdataset",
}
"""What reads one table given by its path, by ending."""


class HuggingFaceImages(ImageSource):
    """One image column of a dataset that the `datasets` library reads.

    The rows stay memory-mapped on disk; other columns are never decoded.

    Args:
        name: a dataset on the hub; a local folder of images or of tables, or written by `save_to_disk`; or one table
            (.parquet, .arrow, .csv, .json, .jsonl, .tar of WebDataset). A card in a local folder that speaks of more
            files than are there is no hindrance.
        split: which split of it; of one table `train`.
        image_column: which column; by default the first that holds images. A column of {bytes, path} does so even where
            the table is not marked as one of images.
        subset: configuration of the dataset, for one that has several.
        revision: branch, tag or commit on the hub.

    Raises:
        ValueError: If there is no such split, no (such) image column, no row, or the tables do not go together.
        FileNotFoundError: If the name is neither a dataset on the hub nor a local folder or table, or there is no home
            folder for the library's cache.
        ConnectionError: If the hub is out of reach.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        image_column: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
    ) -> None:
        import datasets
        from datasets.exceptions import DatasetsError

        _require_cache_folder()
        saved = any((Path(name) / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        try:
            with reaching(name):
                loaded = datasets.load_from_disk(name) if saved else _load(name, subset, split, revision)
        except FileNotFoundError:
            raise
        # IndexError: what the library makes of a saved table without rows
        except (ValueError, LookupError, DatasetsError) as error:
            raise ValueError(f"cannot load split {split!r} of {name}: {_reasons(error)}") from error
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise ValueError(f"unknown split {split!r} of {name}; it has {', '.join(map(str, loaded))}")
            loaded = loaded[split]
        if not isinstance(loaded, datasets.Dataset):
            raise ValueError(f"split {split!r} of {name} is not a table of rows; name a single split")
        if saved and loaded.split is not None and str(loaded.split) != split:
            raise ValueError(f"unknown split {split!r} of {name}; it has {loaded.split}")

        holding = _image_columns(loaded.features)
        column = image_column or next(iter(holding), None)
        if column is None or column not in holding:
            wanted = "no image column" if image_column is None else f"no image column {image_column!r}"
            columns = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in loaded.features.items())
            raise ValueError(f"{wanted} in {name}; its columns are {columns}")
        if len(loaded) == 0:
            raise ValueError(f"split {split!r} of {name} has no row; choose another split")
        self._prefix = f"{name}/{split}"
        self._column = column
        self._rows = loaded.select_columns(column).cast_column(column, datasets.Image())

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Image.Image:
        """Decode the image of one row, upright and in RGB."""
        name = self.name(index)
        with unreadable_as_os_error(name):
            image = self._rows[index][self._column]
            if image is None:
                raise ValueError("the row holds no image")
            return to_rgb(image, name)

    def name(self, index: int) -> str:
        """Name dataset, split and row."""
        return f"{self._prefix}/{index}"


def reaching(name: str) -> AbstractContextManager[None]:
    """Say within seconds where a data set that is not local cannot be fetched; see `srt_distill.hub.fetching`."""
    return nullcontext() if Path(name).exists() else fetching(f"the data set {name}", "give a local folder or table")


def _require_cache_folder() -> None:
    from datasets import config

    if str(config.HF_DATASETS_CACHE).startswith("~"):  # the library would make a folder of this name
        raise FileNotFoundError(
            "there is no home folder for the cache of the datasets library; set HOME, or HF_HOME to a folder for it"
        )


def _load(name: str, subset: str | None, split: str, revision: str | None) -> Any:
    """Load with the library what is not saved by it."""
    import datasets

    path = Path(name)
    if path.is_file():
        kind = TABLES.get(path.suffix.lower())
        if kind is None:
            raise ValueError(f"{path.name} is no table (known are {', '.join(TABLES)}); give a folder or a table")
        return datasets.load_dataset(kind, data_files=str(path), split=split)
    checks = "no_checks" if path.is_dir() else None
    return datasets.load_dataset(name, subset, split=split, revision=revision, verification_mode=checks)


def _image_columns(features: datasets.Features) -> list[str]:
    """Find the columns that hold images: marked as such, or structures of an encoded file and its path."""
    import datasets

    def holds_images(feature: Any) -> bool:
        if isinstance(feature, datasets.Image):
            return True
        if not (isinstance(feature, dict) and set(feature) == {"bytes", "path"}):
            return False
        return getattr(feature["bytes"], "dtype", None) in {"binary", "large_binary"}

    return [key for key, feature in features.items() if holds_images(feature)]


def _reasons(error: BaseException) -> str:
    """Join what an error and those it came of say; the library's outermost is often empty of content."""
    reasons: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        reason = " ".join(str(seen).split())
        if reason and reason not in reasons:
            reasons.append(reason)
        seen = seen.__cause__
    return "; ".join(reasons)
