"""Images of a Hugging Face dataset, from the hub or from a local folder."""

from pathlib import Path

from PIL import Image

from srt_distill.data.source import ImageSource
from srt_distill.images import to_rgb, unreadable_as_os_error


class HuggingFaceImages(ImageSource):
    """One image column of a dataset that the `datasets` library reads.

    The rows stay memory-mapped on disk; other columns are never decoded.

    Args:
        name: a dataset on the hub, or a local folder: of images or Parquet/Arrow files, or written by `save_to_disk`.
        split: which split of it.
        image_column: which column; by default the first that holds images.
        subset: configuration of the dataset, for one that has several.
        revision: branch, tag or commit on the hub.

    Raises:
        ValueError: If there is no such split, no (such) image column, or no row.
        FileNotFoundError: If the name is neither a dataset on the hub nor a local folder.
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

        saved = any((Path(name) / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        try:
            if saved:
                loaded = datasets.load_from_disk(name)
            else:
                loaded = datasets.load_dataset(name, subset, split=split, revision=revision)
        except (ValueError, LookupError) as error:  # IndexError: what the library makes of a saved table without rows
            raise ValueError(f"cannot load split {split!r} of {name}: {error}") from error
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise ValueError(f"unknown split {split!r} of {name}; it has {', '.join(map(str, loaded))}")
            loaded = loaded[split]
        if not isinstance(loaded, datasets.Dataset):
            raise ValueError(f"split {split!r} of {name} is not a table of rows; name a single split")
        if saved and loaded.split is not None and str(loaded.split) != split:
            raise ValueError(f"unknown split {split!r} of {name}; it has {loaded.split}")

        image_columns = [key for key, feature in loaded.features.items() if isinstance(feature, datasets.Image)]
        column = image_column or next(iter(image_columns), None)
        if column is None or column not in image_columns:
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
        """The image of one row, upright and in RGB."""
        name = self.name(index)
        with unreadable_as_os_error(name):
            image = self._rows[index][self._column]
            if image is None:
                raise ValueError("the row holds no image")
            return to_rgb(image)

    def name(self, index: int) -> str:
        """Dataset, split and row."""
        return f"{self._prefix}/{index}"
