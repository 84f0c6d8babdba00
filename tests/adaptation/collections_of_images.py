"""Ten small pictures in every shape that people have images in; fixtures for all tests."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def photograph(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 255, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((60, 50), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """A folder of ten small pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(10):
        photograph(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def collections(tmp_path_factory, photographs) -> dict[str, list[str]]:
    """The same pictures in every shape that people have them in."""
    import datasets

    from srt_distill.visualization import write_mp4

    root = tmp_path_factory.mktemp("collections")
    paths = sorted(photographs.iterdir())
    (root / "few.txt").write_text("\n".join(map(str, paths)))
    write_mp4(root / "clip.mp4", [np.asarray(Image.open(path)) for path in paths])
    table = datasets.Dataset.from_dict({"photo": [str(path) for path in paths]}).cast_column("photo", datasets.Image())
    table.save_to_disk(root / "saved")
    (root / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(root / "shards" / f"{shard}.tar", "w") as tar:
            for path in paths[shard::2]:
                info = tarfile.TarInfo(path.name)
                info.size = path.stat().st_size
                tar.addfile(info, io.BytesIO(path.read_bytes()))
    return {
        "folder": [str(photographs)],
        "list": [str(root / "few.txt")],
        "mp4": [str(root / "clip.mp4")],
        "several": [str(root / "clip.mp4"), str(photographs)],
        "saved": [str(root / "saved")],
        "shards": [str(root / "shards")],
        "shard files": [str(root / "shards" / "0.tar"), str(root / "shards" / "1.tar")],
    }
