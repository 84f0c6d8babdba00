"""Images with classes: folders, tables, and what is neither."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from srt_distill.tasks.classification.labelled_images import (
    ClassFolder,
    LabelledTable,
    drop_duplicates,
    is_table,
    open_labelled,
)
from srt_distill.tasks.example_instances import write_instances


@pytest.fixture
def folder(tmp_path):
    write_instances(tmp_path / "made", ("", ""), side=16)
    return tmp_path / "made"


def table(path, num=4, **columns):
    import datasets

    def encode(color):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {"img": [encode((40 * i, 0, 0)) for i in range(num)], "label": [i % 2 for i in range(num)], **columns}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def test_classes_are_folders_in_natural_order(folder):
    (folder / "amber").rename(folder / "class 10")
    (folder / "jade").rename(folder / "class 9")
    images = ClassFolder(folder)
    assert images.classes == ("class 9", "class 10", "ruby") and images.labels == [0, 0, 1, 1, 2, 2]
    assert images.class_name(None) == "unlabelled" and images.class_name(2) == "ruby"


def test_a_list_of_classes_sets_the_order_and_may_know_more(folder):
    (folder / "classes.txt").write_text("ruby\npearl\namber\njade\n")
    images = ClassFolder(folder)
    assert images.classes == ("ruby", "pearl", "amber", "jade")
    assert dict(zip(images.names, images.labels, strict=True))["amber/amber_0.png"] == 2
    (folder / "classes.txt").write_text("ruby\namber\n")
    with pytest.raises(ValueError, match=r"jade is not among the classes of .*classes.txt"):
        ClassFolder(folder)
    (folder / "classes.txt").write_text("ruby\nruby\n")
    with pytest.raises(ValueError, match="'ruby'"):
        ClassFolder(folder)


def test_pictures_without_folders_have_no_labels_and_half_and_half_is_refused(folder):
    shutil.copy(folder / "ruby" / "ruby_0.png", folder / "loose.png")
    with pytest.raises(ValueError, match=r"loose.png lies in no class's folder"):
        ClassFolder(folder)
    flat = ClassFolder(folder / "ruby")
    assert flat.labels == [None, None] and flat.classes == ()


def test_a_table_gives_the_same_pixels_names_and_classes(tmp_path):
    images = open_labelled(table(tmp_path / "t.parquet"), "test")
    assert isinstance(images, LabelledTable) and images.labels == [0, 1, 0, 1] and images.classes == ("dark", "light")
    assert images.names == ["test-0", "test-1", "test-2", "test-3"]
    assert np.asarray(images.read(3))[0, 0].tolist() == [120, 0, 0]
    shorter = open_labelled(tmp_path / "t.parquet", "test", num_images=3)
    assert len(shorter) == 3 and shorter.digest != images.digest


def test_a_folder_of_tables_is_told_from_a_folder_of_pictures(tmp_path, folder):
    table(tmp_path / "t.parquet")
    assert is_table(tmp_path) and not is_table(folder) and is_table(tmp_path / "owner" / "name")
    (tmp_path / "parts" / "data").mkdir(parents=True)
    table(tmp_path / "parts" / "data" / "test-00000-of-00001.parquet")
    assert len(open_labelled(tmp_path / "parts", "test")) == 4


def test_what_cannot_be_used_is_refused(tmp_path, folder):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="has columns text, label; classification needs one of images"):
        open_labelled(tmp_path / "text.parquet", "test")
    with pytest.raises(FileNotFoundError, match=r"none.parquet"):
        open_labelled(tmp_path / "none.parquet", "test")
    with pytest.raises(ValueError, match="num_images 3 is for rows of a data set"):
        open_labelled(folder, "val", num_images=3)


def test_rows_that_cannot_be_used_are_refused(tmp_path):
    path = table(tmp_path / "four.parquet")
    open_labelled(path, "test").require_readable(range(4))
    with pytest.raises(ValueError, match="num_images 0 leaves no row"):
        open_labelled(path, "test", num_images=0)
    with pytest.raises(ValueError, match=r"none\.parquet has no row"):
        open_labelled(table(tmp_path / "none.parquet", num=0), "test")
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        open_labelled(tmp_path / "nowhere", "test")
    broken = [{"bytes": b"no image", "path": None}, None]
    images = open_labelled(table(tmp_path / "broken.parquet", num=2, img=broken), "test")
    for index in range(2):
        with pytest.raises(OSError, match=rf"test-{index} of .*broken\.parquet"):
            images.require_readable([index])


def test_files_of_equal_content_count_once(folder):
    shutil.copy(folder / "jade" / "jade_0.png", folder / "amber" / "copy.png")
    images = ClassFolder(folder)
    kept = [images.names[i] for i in drop_duplicates(images)]
    assert "amber/copy.png" in kept and "jade/jade_0.png" not in kept and len(kept) == 6
