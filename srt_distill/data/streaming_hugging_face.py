"""Images of a Hugging Face data set that is read over the network as it is needed, not downloaded before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec

from srt_distill.data.hugging_face import reaching
from srt_distill.data.streaming import ImageStream, Sample

if TYPE_CHECKING:
    import datasets

COUNTING_THREADS = 8


class HuggingFaceStream(ImageStream):
    """One image column of a data set that the `datasets` library reads row by row, as it does with `streaming=True`.

    A shard is one of its files. How many rows each has is read from the last kilobytes of Parquet files; files of other
    formats are gone through once when the source is built.

    Args:
        name: a data set on the hub, or a local folder of tables, images or tar files.
        split: which split of it.
        image_column: which column; by default the first that holds images.
        subset: configuration of the data set, for one that has several.
        revision: branch, tag or commit on the hub.
        buffer: images among which the order is shuffled; up to nine times as many are held in memory, encoded, in each
            loader process.

    Raises:
        ValueError: If there is no such split, no (such) image column, or no row.
        FileNotFoundError: If the name is neither a data set on the hub nor a local folder.
        ConnectionError: If the hub is out of reach.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        image_column: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        buffer: int = 256,
    ) -> None:
        import datasets

        with reaching(name):
            builder = datasets.load_dataset_builder(name, subset, revision=revision)
        try:
            rows = builder.as_streaming_dataset(split=split)
        except ValueError as error:
            raise ValueError(f"cannot stream split {split!r} of {name}: {error}") from error
        if not isinstance(rows, datasets.IterableDataset):
            raise ValueError(f"split {split!r} of {name} is not a stream of rows; name a single split")
        column = _find_column(rows, name, image_column)
        self._column = column
        self._rows = rows.select_columns(column).cast_column(column, datasets.Image(decode=False))
        files = [str(file) for file in (builder.config.data_files or {}).get(split, [])]
        one_each = len(files) == rows.num_shards
        shards = [file.rpartition("/")[2] for file in files] if one_each else list(map(str, range(rows.num_shards)))
        parquet = one_each and all(file.endswith(".parquet") for file in files)
        with ThreadPoolExecutor(COUNTING_THREADS) as threads:
            sizes = list(threads.map(_count_parquet_rows, files) if parquet else map(self._count, range(len(shards))))
        super().__init__([f"{name}/{split}/{shard}" for shard in shards], sizes, buffer)

    def read_shard(self, shard: int, start: int) -> Iterator[Sample]:
        """Read a shard from its image number `start` on."""
        for number, image in enumerate(self._encoded(shard, start), start):
            if image is None:
                yield Sample(f"row {number} holds no image", b"")
                continue
            encoded, path = image["bytes"], image["path"]
            if encoded is None and path is not None:
                with fsspec.open(path, "rb") as file:
                    encoded = file.read()  # type: ignore[union-attr]
            yield Sample(path or f"row {number}", encoded or b"")

    def _encoded(self, shard: int, start: int) -> Iterator[dict[str, Any] | None]:
        """Iterate over the column; by batches, as by rows the library would leave out the shards of other workers."""
        rows = self._rows.shard(self._rows.num_shards, shard).skip(start)
        for batch in rows.iter(batch_size=16):
            yield from batch[self._column]

    def _count(self, shard: int) -> int:
        return sum(1 for _ in self._encoded(shard, 0))


def _find_column(rows: "datasets.IterableDataset", name: str, wanted: str | None) -> str:
    import datasets

    if rows.features is None:
        if wanted is None:
            raise ValueError(f"{name} does not declare its columns before it is read; set image_column")
        return wanted
    holding = [key for key, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    column = wanted or next(iter(holding), None)
    if column is None or column not in rows.features:
        known = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in rows.features.items())
        raise ValueError(f"no image column {wanted or ''} in {name}; its columns are {known}")
    return column


def _count_parquet_rows(url: str) -> int:
    from pyarrow import parquet

    with fsspec.open(url, "rb") as file:
        return parquet.read_metadata(file).num_rows
