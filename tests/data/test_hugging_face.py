import io
import pickle
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from srt_distill.data import HuggingFaceImages
from srt_distill.data.streaming_hugging_face import HuggingFaceStream
from tests.data.pictures import picture


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def rows() -> datasets.Dataset:
    features = datasets.Features(
        {"label": datasets.Value("int64"), "photo": datasets.Image(), "thumbnail": datasets.Image(decode=False)}
    )
    columns = {"label": [0, 1, 2], "photo": [picture(i) for i in range(3)], "thumbnail": [picture(9)] * 3}
    return datasets.Dataset.from_dict(columns, features=features)


def blue(source: HuggingFaceImages, index: int) -> int:
    image = source.load(index)
    assert (image.mode, image.size) == ("RGB", (56, 40))
    return image.getpixel((0, 0))[2]


def test_saved_dataset_takes_the_first_image_column(rows, tmp_path):
    rows.save_to_disk(tmp_path / "saved")
    source = HuggingFaceImages(str(tmp_path / "saved"))
    assert [blue(source, i) for i in range(len(source))] == [0, 1, 2]
    assert source.name(2) == f"{tmp_path}/saved/train/2"
    assert blue(pickle.loads(pickle.dumps(source)), 1) == 1


def test_named_column_even_if_stored_undecoded(rows, tmp_path):
    rows.save_to_disk(tmp_path / "saved")
    assert blue(HuggingFaceImages(str(tmp_path / "saved"), image_column="thumbnail"), 0) == 9


def test_saved_splits(rows, tmp_path):
    datasets.DatasetDict({"train": rows, "extra": rows.select([2])}).save_to_disk(tmp_path / "saved")
    assert blue(HuggingFaceImages(str(tmp_path / "saved"), split="extra"), 0) == 2
    with pytest.raises(ValueError, match=r"unknown split 'test' of .*saved; it has train, extra"):
        HuggingFaceImages(str(tmp_path / "saved"), split="test")


def test_folder_of_parquet(rows, tmp_path):
    (tmp_path / "tables").mkdir()
    rows.to_parquet(tmp_path / "tables/train.parquet")
    source = HuggingFaceImages(str(tmp_path / "tables"))
    assert [blue(source, i) for i in range(len(source))] == [0, 1, 2]
    assert len(HuggingFaceImages(str(tmp_path / "tables"), split="train[:2]")) == 2
    with pytest.raises(ValueError, match=r"Unknown split \"test\". Should be one of \['train'\]"):
        HuggingFaceImages(str(tmp_path / "tables"), split="test")


def test_folder_of_images(folder: Path):
    source = HuggingFaceImages(str(folder))
    assert sorted(blue(source, i) for i in range(len(source))) == list(range(11))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(OSError, match=r"cannot read image .*/train/4: "):
        source.load(4)


def test_without_an_image_column_the_columns_are_named(rows, tmp_path):
    rows.select_columns("label").save_to_disk(tmp_path / "labels")
    with pytest.raises(ValueError, match=r"no image column in .*labels; its columns are label \(Value\)"):
        HuggingFaceImages(str(tmp_path / "labels"))
    rows.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"no image column 'label' in .*photo \(Image\)"):
        HuggingFaceImages(str(tmp_path / "saved"), image_column="label")


def test_split_saved_alone_is_not_taken_for_another(rows, tmp_path):
    (tmp_path / "tables").mkdir()
    rows.to_parquet(tmp_path / "tables/test.parquet")
    datasets.load_dataset(str(tmp_path / "tables"), split="test").save_to_disk(tmp_path / "saved")
    assert len(HuggingFaceImages(str(tmp_path / "saved"), split="test")) == 3
    with pytest.raises(ValueError, match=r"unknown split 'train' of .*saved; it has test"):
        HuggingFaceImages(str(tmp_path / "saved"))


def test_empty_split(rows, tmp_path):
    (tmp_path / "tables").mkdir()
    rows.to_parquet(tmp_path / "tables/train.parquet")
    with pytest.raises(ValueError, match=r"split 'train\[:0\]' of .*tables"):
        HuggingFaceImages(str(tmp_path / "tables"), split="train[:0]")
    rows.select([]).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"cannot load split 'train' of .*saved"):
        HuggingFaceImages(str(tmp_path / "saved"))


def test_neither_hub_nor_folder(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        HuggingFaceImages(str(tmp_path / "nowhere"))


def test_unreadable_rows_raise_os_error_with_their_name(tmp_path):
    images = [{"bytes": b"not an image", "path": None}, None]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": images}, features=features).save_to_disk(tmp_path / "saved")
    source = HuggingFaceImages(str(tmp_path / "saved"))
    for index in range(2):
        with pytest.raises(OSError, match=f"cannot read image .*saved/train/{index}: "):
            source.load(index)


def encoded(number: int) -> dict[str, object]:
    content = io.BytesIO()
    picture(number).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def test_a_structure_of_bytes_and_path_holds_images_whoever_wrote_it(tmp_path):
    (tmp_path / "tables").mkdir()
    path = pyarrow.array([None] * 3, pyarrow.string())
    files = pyarrow.array([encoded(i)["bytes"] for i in range(3)], pyarrow.binary())
    column = pyarrow.StructArray.from_arrays([files, path], ["bytes", "path"])
    pyarrow.parquet.write_table(pyarrow.table({"id": [7, 8, 9], "photo": column}), tmp_path / "tables/train.parquet")
    source = HuggingFaceImages(str(tmp_path / "tables"))
    assert [blue(source, i) for i in range(3)] == [0, 1, 2]
    assert blue(HuggingFaceImages(str(tmp_path / "tables"), image_column="photo"), 1) == 1


def test_one_table_by_its_name(rows, tmp_path):
    rows.to_parquet(tmp_path / "part-3.parquet")
    (tmp_path / "README.md").write_text("---\nconfigs: nonsense\n---\n")
    source = HuggingFaceImages(str(tmp_path / "part-3.parquet"))
    assert [blue(source, i) for i in range(len(source))] == [0, 1, 2]
    assert len(HuggingFaceImages(str(tmp_path / "part-3.parquet"), split="train[:2]")) == 2
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt is no table \(known are \.parquet"):
        HuggingFaceImages(str(tmp_path / "notes.txt"))


def test_a_part_of_a_set_under_the_card_of_the_whole_is_read(rows, tmp_path):
    (tmp_path / "tables").mkdir()
    rows.to_parquet(tmp_path / "tables/train.parquet")
    card = "---\ndataset_info:\n  splits:\n  - name: train\n    num_bytes: 900000\n    num_examples: 400\n---\n"
    (tmp_path / "tables/README.md").write_text(card)
    assert len(HuggingFaceImages(str(tmp_path / "tables"))) == 3


def test_tables_of_two_kinds_are_refused_with_what_was_found(rows, tmp_path):
    (tmp_path / "tables").mkdir()
    rows.select_columns("photo").to_parquet(tmp_path / "tables/train-0.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"caption": ["a"]}), tmp_path / "tables/train-1.parquet")
    with pytest.raises(ValueError, match=r"cannot load split 'train' of .*tables: .*caption"):
        HuggingFaceImages(str(tmp_path / "tables"))


def test_without_a_home_folder_none_is_made_up(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", "~/.cache/huggingface/datasets")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no home folder .*set HOME, or HF_HOME"):
        HuggingFaceImages("tables")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", [HuggingFaceImages, HuggingFaceStream])
def test_a_hub_out_of_reach_is_said_with_the_ways_round_and_not_tried_again(source, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("srt_distill.hub.find_trouble", lambda: "407 Proxy Authentication Required")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("waits to try again"))
    with pytest.raises(OSError, match=r"someone/pictures .*out of reach \(407 .*local folder.*HTTPS_PROXY="):
        source("someone/pictures")
    assert constants.HF_HUB_OFFLINE is False
