import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srt_distill.data import DavisFrames, FileList, ImageFolder


def test_folder_is_sorted_and_loads_rgb(folder):
    source = ImageFolder(folder)
    assert [source.name(i) for i in range(len(source))] == [f"{number:02}.png" for number in range(11)]
    image = source.load(7)
    assert (image.mode, image.size, image.getpixel((5, 3))) == ("RGB", (56, 40), (5, 3, 7))


def test_folder_opens_no_image_when_built(folder, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr("builtins.open", fail)
    assert len(ImageFolder(folder)) == 11


def test_folder_survives_pickling(folder):
    source = pickle.loads(pickle.dumps(ImageFolder(folder)))
    assert source.name(10) == "10.png" and source.load(10).getpixel((0, 0)) == (0, 0, 10)


@pytest.mark.parametrize(
    ("recursive", "says"), [(True, "in all folders below"), (False, "not in folders below: recursive is off")]
)
def test_empty_folder_says_what_it_looked_for(tmp_path, recursive, says):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=rf"no image in .*{tmp_path.name} \(looked for \.jpg, .*{says}"):
        ImageFolder(tmp_path, recursive=recursive)


def test_unreadable_files_raise_os_error_with_their_name(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cut.jpg")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cut.png")
    for name in ("cut.jpg", "cut.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 60])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    source = ImageFolder(tmp_path)
    assert len(source) == 4
    for index in range(4):
        with pytest.raises(OSError, match=f"cannot read image {source.name(index)}: "):
            source.load(index)


def test_list_is_relative_to_its_own_folder_and_keeps_its_order(folder):
    path = folder / "lists/mine.txt"
    path.parent.mkdir()
    path.write_text(f"../03.png\n\n{folder}/01.png\r\n../missing.png\n")
    source = FileList(path)
    assert [source.load(i).getpixel((0, 0))[2] for i in range(2)] == [3, 1]
    with pytest.raises(OSError, match=r"cannot read image \.\./missing\.png"):
        source.load(2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('path,label\n"00.png",0\n', "comma-separated"),
        ("00.png\t0\n01.png\t1\n", "tab-separated"),
        ("00.png 0\n01.png 1\n", "a path and a label"),
        ('{"path": "00.png"}\n', "JSON"),
    ],
)
def test_a_table_is_no_list_and_its_format_is_named(folder, content, says):
    (folder / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=f"list.csv looks like .*{says}.*write one image path per line"):
        FileList(folder / "list.csv")


def test_lists_of_other_editors(folder):
    (folder / "00.png").rename(folder / "my, photo.png")
    (folder / "wide.txt").write_bytes('my, photo.png\r\n# rest\r\n"01.png"\r\n'.encode("utf-16"))
    source = FileList(folder / "wide.txt")
    assert [source.load(i).getpixel((0, 0))[2] for i in range(len(source))] == [0, 1]


def test_bad_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"file list .*none\.txt does not exist"):
        FileList(tmp_path / "none.txt")
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"file list .*blank\.txt names no image"):
        FileList(tmp_path / "blank.txt")


@pytest.fixture
def davis(tmp_path) -> Path:
    for sequence in ("bear", "bus", "libby"):
        (tmp_path / "JPEGImages/480p" / sequence).mkdir(parents=True)
        for frame in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / f"JPEGImages/480p/{sequence}/{frame:05}.jpg")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("bus\nbear\n")
    (tmp_path / "ImageSets/2017/val.txt").write_text("libby\n")
    return tmp_path


def test_davis_default_leaves_val_out(davis):
    source = DavisFrames(davis)
    names = [source.name(i) for i in range(len(source))]
    assert names == [f"{sequence}/{frame:05}.jpg" for sequence in ("bus", "bear") for frame in range(3)]
    assert source.load(5).size == (8, 8)
    assert DavisFrames(davis, split="val").name(0) == "libby/00000.jpg"


def test_davis_frames_come_in_natural_order(davis):
    for frame in range(3):
        path = davis / f"JPEGImages/480p/bus/{frame:05}.jpg"
        path.rename(path.with_name(f"{frame + 9}.jpg"))
    source = DavisFrames(davis)
    assert [source.name(i) for i in range(3)] == ["bus/9.jpg", "bus/10.jpg", "bus/11.jpg"]
    Image.new("RGB", (8, 8)).save(davis / "JPEGImages/480p/bus/10.png")
    with pytest.raises(ValueError, match=r"frame 10 of .*bus is there twice"):
        DavisFrames(davis)


def test_davis_lists_of_other_editions_and_editors(davis):
    lines = [f"/JPEGImages/480p/bear/{n:05}.jpg /Annotations/480p/bear/{n:05}.png" for n in range(3)]
    (davis / "ImageSets/2017/pairs.txt").write_text("\n".join(lines))
    (davis / "ImageSets/2017/marked.txt").write_bytes(b"\xef\xbb\xbfbear\r\n# bus\r\n")
    for split in ("pairs", "marked"):
        source = DavisFrames(davis, split=split)
        assert [source.name(i) for i in range(len(source))] == [f"bear/{frame:05}.jpg" for frame in range(3)]
    (davis / "ImageSets/2017/out.txt").write_text(f"bear\n{davis}/JPEGImages/480p/bus\n")
    with pytest.raises(ValueError, match="leads out of the folder of sequences"):
        DavisFrames(davis, split="out")


def test_options_of_decoding_reach_the_decoder(tmp_path):
    Image.fromarray(np.full((4, 4), 16383, np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png")
    for source in (ImageFolder, lambda root, **options: FileList(root / "list.txt", **options)):
        assert source(tmp_path, bit_depth=14).load(0).getpixel((0, 0)) == (255, 255, 255)
        with pytest.raises(OSError, match=r"a\.png: 4x4 .*max_pixels=15"):
            source(tmp_path, max_pixels=15).load(0)


def test_davis_errors_name_what_is_there(davis):
    with pytest.raises(FileNotFoundError, match=r"DAVIS root .*nowhere does not exist"):
        DavisFrames(davis / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"test\.txt does not exist; splits of 2017 found there: train, val"):
        DavisFrames(davis, split="test")
    with pytest.raises(FileNotFoundError, match="splits of 2016 found there: none"):
        DavisFrames(davis, year="2016")
    with pytest.raises(FileNotFoundError, match=r"folder .*bus does not exist"):
        DavisFrames(davis, resolution="1080p")
    (davis / "JPEGImages/480p/empty").mkdir()
    (davis / "ImageSets/2017/train.txt").write_text("empty")
    with pytest.raises(FileNotFoundError, match="no frame of sequence empty in"):
        DavisFrames(davis)
    (davis / "ImageSets/2017/train.txt").write_text("")
    with pytest.raises(ValueError, match="names no sequence"):
        DavisFrames(davis)


def test_real_davis(shared_data):
    source = DavisFrames(shared_data / "DAVIS")
    sequences = {source.name(i).split("/")[0] for i in range(len(source))}
    assert len(sequences) == 12 and not sequences & {"blackswan", "car-shadow", "libby"}
    assert source.load(0).size == (854, 480)


def test_importing_the_package_does_not_import_what_only_some_sources_need():
    code = "import sys, srt_distill.data; print({'datasets', 'av'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
