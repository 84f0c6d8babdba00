import pickle
from pathlib import Path

import datasets
import pytest
from torch.utils.data import DataLoader, Dataset

from srt_distill.data import HuggingFaceStream, UnlabeledImages
from tests.data.pictures import picture
from tests.data.test_unlabeled import Recorder, SaveOften, fit, same


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def tables(tmp_path) -> Path:
    """Three Parquet files of 5, 1 and 11 rows."""
    root = tmp_path / "tables"
    root.mkdir()
    features = datasets.Features({"label": datasets.Value("int64"), "photo": datasets.Image()})
    for shard, numbers in enumerate((range(5), range(5, 6), range(6, 17))):
        columns = {"label": list(numbers), "photo": [picture(i, 12, 12) for i in numbers]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(root / f"train-{shard}.parquet")
    return root


def blue(source: HuggingFaceStream, index: int) -> int:
    image = source.load(index)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))[2]


def test_rows_of_parquet_files_are_counted_from_their_ends(tables, monkeypatch):
    monkeypatch.setattr(HuggingFaceStream, "_count", lambda *_: pytest.fail("a table was gone through"))
    source = HuggingFaceStream(str(tables), buffer=3)
    assert list(source.sizes.values()) == [5, 1, 11]
    assert source.name(7) == f"{tables}/train/train-2.parquet#1"
    assert [blue(source, i) for i in (*range(17), 3, 16, 6)] == [*range(17), 3, 16, 6]
    assert blue(pickle.loads(pickle.dumps(source)), 9) == 9


def test_rows_of_other_files_are_gone_through(folder):
    source = HuggingFaceStream(str(folder))
    assert len(source) == 11 and sorted(blue(source, i) for i in range(11)) == list(range(11))


def test_loader_processes_get_what_they_ask_for(tables):
    class Blues(Dataset):
        source = HuggingFaceStream(str(tables), buffer=3)

        def __len__(self):
            return 17

        def __getitem__(self, index):
            return blue(self.source, index)

    assert [int(i) for batch in DataLoader(Blues(), batch_size=4, num_workers=2) for i in batch] == list(range(17))


def test_run_resumed_twice_sees_what_an_uninterrupted_one_would(tables, tmp_path):
    """The library's own state of a stream began anew when resumed a second time (before 5.0.1): none is kept here."""

    def data():
        source = HuggingFaceStream(str(tables), buffer=3)
        return UnlabeledImages(source, 8, margin=1, batch_size=2, num_workers=0, held_out=3, patch=8)

    folders = [tmp_path / name for name in ("whole", "first", "second")]
    whole, first, second = Recorder(schedule=True), Recorder(schedule=True), Recorder(schedule=True)
    fit(whole, data(), max_epochs=2, callbacks=[SaveOften(folders[0])])
    fit(first, data(), ckpt_path=folders[0] / "step02.ckpt", max_epochs=2, callbacks=[SaveOften(folders[1])])
    fit(second, data(), ckpt_path=folders[1] / "step05.ckpt", max_epochs=2)
    assert len(whole.seen) == 14 and same(first.seen, whole.seen[2:]) and same(second.seen, whole.seen[5:])


def test_row_without_an_image_is_named(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [picture(0), None, picture(2)]}, features=features)
    (tmp_path / "t").mkdir()
    rows.to_parquet(tmp_path / "t/train.parquet")
    source = HuggingFaceStream(str(tmp_path / "t"))
    with pytest.raises(OSError, match=r"cannot read image .*#1 \(row 1 holds no image\)"):
        source.load(1)
    assert blue(source, 2) == 2


def test_what_is_not_there_is_named(tables, tmp_path):
    with pytest.raises(ValueError, match="cannot stream split 'test'"):
        HuggingFaceStream(str(tables), split="test")
    with pytest.raises((ValueError, KeyError), match="label"):
        HuggingFaceStream(str(tables), image_column="thumbnail")
    with pytest.raises(OSError, match="nowhere"):
        HuggingFaceStream(str(tmp_path / "nowhere"))
