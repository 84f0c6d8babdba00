import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.data.listing import PackedNames, find_files


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
    (tmp_path / "root/broken.png").symlink_to(tmp_path / "nowhere")
    found = find_files(tmp_path / "root", (".png",), recursive=True)
    assert sorted(Path(name).name for name in found) == ["1.png", "2.png", "broken.png"]


def test_asks_the_system_about_folders_only(tmp_path, monkeypatch):
    """The cost is one listing and one status a folder, however many files there are."""
    make(tmp_path, *(f"{folder}/{number}.jpg" for folder in range(3) for number in range(50)))
    listed, asked = [], []
    scandir, stat = os.scandir, Path.stat

    class Entry:
        def __init__(self, entry):
            self.name, self.is_dir, self.is_symlink = entry.name, entry.is_dir, entry.is_symlink

        def stat(self, **_):
            raise AssertionError("a file was asked for its status")

        is_file = stat

    class Listing:
        def __init__(self, path):
            listed.append(path)
            self.entries = scandir(path)

        def __enter__(self):
            return map(Entry, self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr("srt_distill.data.listing.os.scandir", Listing)
    monkeypatch.setattr(Path, "stat", lambda self, **options: asked.append(self) or stat(self, **options))
    assert len(find_files(tmp_path, (".jpg",), recursive=True)) == 150
    assert len(listed) == 4
    assert all(path.is_dir() for path in asked[:]) and len(asked) <= 2 * 4 + 4


def test_missing_folder_and_file_in_its_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        find_files(tmp_path / "nowhere", (".png",), recursive=True)
    make(tmp_path, "1.png")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        find_files(tmp_path / "1.png", (".png",), recursive=True)
