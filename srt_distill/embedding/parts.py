"""A file of features while it is made: finished parts beside it, put together at the end.

Shape legend: N images, C channels, h w tokens.

A part is a safetensors file of some images in order: of each its features under its number, and names as metadata. What
is finished is not computed again; the parts go when the whole is there.
"""

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import save_file

from srt_distill.files import replaced_file, write_file

ENDINGS = (".safetensors", ".parquet")
IMAGES_PER_PART = 256
SETTINGS = "settings.json"
Shape = tuple[str, list[int], str]
"""Name of an image, shape of its features, number format."""
BYTES = {"F32": 4, "F16": 2}


class Parts:
    """The parts of one file.

    Args:
        output: The file that is made.
        settings: What the features are made of, plain data; parts of other settings are refused.

    Raises:
        ValueError: If the ending is not known, or there are parts of other settings.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        if output.suffix not in ENDINGS:
            raise ValueError(f"output {output} ends in none of {', '.join(ENDINGS)}; name a file of one of these kinds")
        self.output, self.settings = output, dict(settings)
        self.folder = output.with_name(f"{output.name}.parts")
        note = self.folder / SETTINGS
        if note.is_file() and (stored := json.loads(note.read_text())) != json.loads(json.dumps(self.settings)):
            other = [name for name, value in stored.items() if value != self.settings.get(name)]
            raise ValueError(
                f"{self.folder} holds parts made under other settings ({', '.join(other)}); give the same, remove the "
                "folder, or name another output"
            )
        write_file(note, json.dumps(self.settings))

    def path(self, number: int) -> Path:
        """Name the file of a part."""
        return self.folder / f"{number:06}.safetensors"

    def write(self, number: int, features: Mapping[str, np.ndarray]) -> None:
        """Write a part, whole or not at all: features by name of the image."""
        tensors = {f"{place}": np.ascontiguousarray(value) for place, value in enumerate(features.values())}
        with replaced_file(self.path(number)) as temporary:
            save_file(tensors, temporary, {"names": json.dumps(list(features))})

    def is_finished(self, number: int) -> bool:
        """Tell whether a part is there."""
        return self.path(number).is_file()

    def read(self, number: int) -> Iterator[tuple[str, np.ndarray]]:
        """Read names and features of a part, one by one."""
        with safe_open(self.path(number), "numpy") as file:
            for place, name in enumerate(json.loads(file.metadata()["names"])):
                yield name, file.get_tensor(str(place))

    def shapes(self, number: int) -> list[Shape]:
        """Read names, shapes and number formats of a part, without the features."""
        with safe_open(self.path(number), "numpy") as file:
            slices = {name: file.get_slice(str(i)) for i, name in enumerate(json.loads(file.metadata()["names"]))}
            return [(name, part.get_shape(), part.get_dtype()) for name, part in slices.items()]

    def put_together(self, num_parts: int, dense: bool) -> int:
        """Write the file out of all parts, and remove them.

        Args:
            num_parts: How many there are.
            dense: Whether features are maps (C, h, w), not vectors (C,).

        Returns:
            Images in it.

        Raises:
            ValueError: If there is none.
        """
        shapes = [found for number in range(num_parts) for found in self.shapes(number)]
        if not shapes:
            raise ValueError("no image could be read, so that there are no features to write; check the images")
        rows = (row for number in range(num_parts) for row in self.read(number))
        with replaced_file(self.output) as temporary:
            if self.output.suffix == ".parquet":
                self._write_parquet(temporary, num_parts, dense)
            else:
                self._write_safetensors(temporary, shapes, rows, dense)
        shutil.rmtree(self.folder)
        return len(shapes)

    def _write_safetensors(
        self, path: Path, shapes: list[Shape], rows: Iterator[tuple[str, np.ndarray]], dense: bool
    ) -> None:
        """Write a header and the features after it, one by one, so that memory holds one image's."""
        names, dtype = [name for name, _, _ in shapes], shapes[0][2]
        size = BYTES[dtype]
        header: dict[str, Any] = {"__metadata__": {**_as_text(self.settings), "names": json.dumps(names)}}
        if dense:
            end = 0
            for name, shape, _ in shapes:
                begin, end = end, end + int(np.prod(shape)) * size
                header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        else:
            shape = [len(shapes), *shapes[0][1]]
            end = int(np.prod(shape)) * size
            header["features"] = {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, features in rows:
                file.write(features.tobytes())

    def _write_parquet(self, path: Path, num_parts: int, dense: bool) -> None:
        """Write a row per image: name, shape of a map, and features in order of channels, rows, columns."""
        writer = None
        for number in range(num_parts):
            rows = list(self.read(number))
            if not rows:
                continue
            kind = pa.from_numpy_dtype(rows[0][1].dtype)
            columns: dict[str, Any] = {"name": pa.array([name for name, _ in rows], pa.string())}
            if dense:
                for axis, label in enumerate(("channels", "height", "width")):
                    columns[label] = pa.array([features.shape[axis] for _, features in rows], pa.int32())
            columns["features"] = pa.array([features.ravel() for _, features in rows], pa.list_(kind))
            table = pa.table(columns)
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema.with_metadata(_as_text(self.settings)))
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _as_text(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
