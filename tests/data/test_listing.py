import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.data.kinds import is_picture, pick_alike
from srt_distill.data.listing import PackedNames, find_files, find_pictures, list_frames, natural_order
from srt_distill.images import READS_HEIF
from tests.data.pictures import closed, picture
from tests.oracles import natural_key


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_packed_names_are_the_names(names):
    packed = PackedNames(names)
    assert list(packed) == names
    assert packed[::-1] == names[::-1]
    assert packed.nbytes == sum(len(name.encode()) for name in names) + 8 * (len(names) + 1)


def test_packed_names_out_of_range():
    with pytest.raises(IndexError, match="index 2 is out of range for 2 names"):
        PackedNames(["a", "b"])[2]


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_finds_by_ending_sorted_and_passes_over_the_rest(tmp_path):
    make(tmp_path, "b/2.JPG", "b/1.jpg", "a.png", "notes.txt", "._a.png", ".cache/x.png", "c.png/inside.jpg")
    assert find_files(tmp_path, (".jpg", ".png"), recursive=True) == ["a.png", "b/1.jpg", "b/2.JPG", "c.png/inside.jpg"]
    assert find_files(tmp_path, (".jpg", ".png"), recursive=False) == ["a.png"]


def test_follows_linked_folders_once_and_survives_a_loop(tmp_path):
    make(tmp_path / "elsewhere", "1.png")
    make(tmp_path / "root", "2.png")
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/linked.png").symlink_to(tmp_path / "elsewhere/1.png")
    found = find_files(tmp_path / "root", (".png",), recursive=True)
    assert sorted(Path(name).name for name in found) == ["1.png", "2.png", "linked.png"]


@pytest.mark.parametrize("find", [find_pictures, lambda root, recursive: find_files(root, (".png",), recursive)])
def test_what_is_no_regular_file_is_named_and_passed_over(tmp_path, find):
    make(tmp_path, "1.png", "notes.txt")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match=r"3 entries .* no regular files .*gone\.png, pipe\.png, self\.png"):
        assert find(tmp_path, True) == ["1.png"]


def test_a_folder_that_may_not_be_listed_is_named_and_passed_over(tmp_path):
    make(tmp_path, "a/1.png", "lost+found/2.png", "3.png")
    with closed(tmp_path / "lost+found"), pytest.warns(UserWarning, match=r"lost\+found/ \(Permission denied\)"):
        assert find_pictures(tmp_path, recursive=True) == ["3.png", "a/1.png"]
    with closed(tmp_path), pytest.raises(PermissionError, match="cannot be listed.*check its mode"):
        find_pictures(tmp_path, recursive=True)


def test_asks_the_system_about_folders_only(tmp_path, monkeypatch):
    """The cost is one listing and one status per folder, however many files there are, and no file is opened."""
    make(tmp_path, *(f"{folder}/{number}.jpg" for folder in range(3) for number in range(50)))
    listed, asked = [], []
    scandir, stat = os.scandir, Path.stat
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(Path, "stat", lambda self, **options: asked.append(self) or stat(self, **options))
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("a file was opened"))
    assert len(find_pictures(tmp_path, recursive=True)) == 150
    assert len(listed) == 4
    assert all(path.is_dir() for path in asked[:]) and len(asked) <= 2 * 4 + 4


def test_missing_folder_and_file_in_its_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        find_files(tmp_path / "nowhere", (".png",), recursive=True)
    make(tmp_path, "1.png")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        find_files(tmp_path / "1.png", (".png",), recursive=True)


@given(st.lists(st.text("ab.-/019", max_size=8)))
def test_natural_order_is_the_order_of_numbers(names):
    assert natural_order(names) == sorted(names, key=lambda name: (natural_key(name), name))


def test_natural_order_of_frames():
    assert natural_order(["10.png", "1.png", "2.png"]) == ["1.png", "2.png", "10.png"]
    assert natural_order(["b10/1", "b9/2", "b10/0"]) == ["b9/2", "b10/0", "b10/1"]


def save(path: Path, format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(3).save(path, format)


def test_content_says_what_a_picture_is_where_the_ending_does_not(tmp_path):
    for name, format in (("a.jfif", "JPEG"), ("b.JPE", "JPEG"), ("c", "PNG"), ("d.photo", "WEBP"), ("e.bin", "TIFF")):
        save(tmp_path / name, format)
    (tmp_path / "f.bin").write_bytes(b"no picture at all")
    (tmp_path / "g.txt").write_text("a caption")
    make(tmp_path, "empty")
    assert find_pictures(tmp_path, recursive=False) == ["a.jfif", "b.JPE", "c", "d.photo", "e.bin"]


@pytest.mark.parametrize("format", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP"])
def test_every_common_format_is_known_by_its_first_bytes(tmp_path, format):
    save(tmp_path / "file", format)
    assert is_picture(tmp_path / "file")


def test_a_million_captions_cost_the_opening_of_a_few(tmp_path):
    asked = []
    names = [f"{number:06}.txt" for number in range(1_000_000)]
    assert pick_alike(names, lambda name: asked.append(name) or False) == [] and len(asked) <= 16
    assert pick_alike(names, lambda name: True) == names
    half = set(names[::2])
    assert pick_alike(names[:100], lambda name: name in half) == names[:100:2]


@pytest.mark.skipif(READS_HEIF, reason="pillow-heif is installed: they are read")
def test_pictures_that_cannot_be_read_here_are_counted(tmp_path):
    make(tmp_path, "1.png", *(f"IMG_{number}.HEIC" for number in range(20)), "raw/a.nef", "notes.txt")
    with pytest.warns(UserWarning, match=r"21 pictures .*20 HEIC, 1 NEF; convert .*pillow-heif"):
        assert find_pictures(tmp_path, recursive=True) == ["1.png"]


def test_frames_of_a_sequence(tmp_path):
    make(tmp_path, "10.jpg", "9.jpg", "._9.jpg", "sub/1.jpg", "notes.txt", "11.PNG")
    assert [path.name for path in list_frames(tmp_path)] == ["9.jpg", "10.jpg", "11.PNG"]
    make(tmp_path, "9.png")
    with pytest.raises(ValueError, match=r"frame 9 of .* is there twice, as 9\.jpg and as 9\.png; keep one"):
        list_frames(tmp_path)
