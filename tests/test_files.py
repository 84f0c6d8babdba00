"""Files and folders that are complete or absent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from srt_distill import files
from srt_distill.files import (
    Holding,
    remove_leftovers,
    replaced_file,
    replaced_folder,
    require_apart,
    require_replaceable,
    require_writable,
    write_file,
)

MODEL = Holding("weights", ("weights", "parts/*"))


@pytest.fixture
def older(tmp_path):
    """An older folder of the kind."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights").write_text("old")
    return folder


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in root.rglob("*")
    }


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(OSError, match="disk full"), replaced_file(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_folder(older, tmp_path):
    with pytest.raises(OSError, match="disk full"), replaced_folder(older, MODEL) as temporary:
        (temporary / "weights").write_text("half")
        raise OSError("disk full")
    assert snapshot(tmp_path) == {"export": False, "export/weights": b"old"}


def test_a_folder_is_replaced_whole(older, tmp_path):
    (older / "parts").mkdir()
    (older / "parts" / "stale").write_text("old")
    with replaced_folder(older, MODEL) as temporary:
        (temporary / "weights").write_text("new")
    assert snapshot(tmp_path) == {"export": False, "export/weights": b"new"}


@pytest.mark.parametrize("extra", ["todo.txt", "parts.txt", "other/weights", "weights.txt"])
def test_a_folder_that_holds_something_else_is_refused(older, tmp_path, extra):
    (older / extra).parent.mkdir(exist_ok=True)
    (older / extra).write_text("mine")
    before = snapshot(tmp_path)
    for call in (lambda: require_replaceable(older, MODEL), lambda: replaced_folder(older, MODEL).__enter__()):
        with pytest.raises(FileExistsError, match=rf"export holds {extra}.*would be lost; give a folder"):
            call()
    assert snapshot(tmp_path) == before


def test_known_names_without_the_mark_are_somebody_elses(older, tmp_path):
    (older / "weights").rename(tmp_path / "elsewhere")
    (older / "parts").mkdir()
    (older / "parts" / "a").write_text("mine")
    with pytest.raises(FileExistsError, match="holds parts/a"):
        require_replaceable(older, MODEL)


def test_a_file_and_a_link_to_a_full_folder_stay(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    (tmp_path / "link").symlink_to("full")
    before = snapshot(tmp_path)
    for name, reason in (("file", "is a file"), ("link", "holds note")):
        with pytest.raises(FileExistsError, match=reason), replaced_folder(tmp_path / name, MODEL):
            pass
    assert snapshot(tmp_path) == before


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with replaced_folder(tmp_path / "link", MODEL) as temporary:
        (temporary / "weights").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert snapshot(tmp_path / "disk") == {"weights": b"new"}


def test_the_current_folder_is_filled_where_it_is(older, tmp_path, monkeypatch):
    monkeypatch.chdir(older)
    number = older.stat().st_ino
    with replaced_folder(older, MODEL) as temporary:
        (temporary / "parts").mkdir()
        (temporary / "parts" / "a").write_text("new")
        (temporary / "weights").write_text("new")
    assert snapshot(tmp_path) == {
        "export": False,
        "export/weights": b"new",
        "export/parts": False,
        "export/parts/a": b"new",
    }
    assert older.stat().st_ino == number


def test_a_folder_that_cannot_be_renamed_is_filled_where_it_is(older, tmp_path, monkeypatch):
    rename = files.Path.rename

    def refuse(self, target):
        if self == older:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(files.Path, "rename", refuse)
    with replaced_folder(older, MODEL) as temporary:
        (temporary / "weights").write_text("new")
    assert snapshot(tmp_path) == {"export": False, "export/weights": b"new"}


def test_a_folder_in_a_read_only_parent_is_filled_where_it_is(older, tmp_path, monkeypatch):
    access = os.access
    monkeypatch.setattr(files.os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    number = older.stat().st_ino
    with replaced_folder(older, MODEL) as temporary:
        assert temporary.parent == older
        (temporary / "weights").write_text("new")
    assert snapshot(older) == {"weights": b"new"}
    assert older.stat().st_ino == number


def test_filling_that_was_cut_short_can_be_done_again(older, monkeypatch):
    monkeypatch.chdir(older)
    (older / "weights").unlink()  # the mark goes first
    (older / "parts").mkdir()
    (older / "parts" / "a").write_text("old")
    (older / ".filling-abcdefgh").mkdir()
    (older / ".filling-abcdefgh" / "weights").write_text("half")
    with replaced_folder(older, MODEL) as temporary:
        (temporary / "weights").write_text("new")
    assert snapshot(older) == {"weights": b"new"}


@pytest.mark.parametrize(("output", "word"), [("runs/one", "is"), ("runs", "contains"), ("runs/one/in/it", "inside")])
def test_an_output_that_is_holds_or_lies_in_its_source_is_refused(tmp_path, output, word):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=rf"{word} .*the run .*give a folder outside"):
        require_apart(tmp_path / output, tmp_path / "runs" / "one", "the run")
    require_apart(tmp_path / "runs" / "two", tmp_path / "runs" / "one", "the run")


WRITING = """
import sys, time
from pathlib import Path
from srt_distill.files import Holding, replaced_file, replaced_folder
path = Path(sys.argv[1])
with replaced_folder(path, Holding("weights", ("weights",))) as folder, replaced_file(path.parent / "a.bin") as file:
    (folder / "weights").write_text("half")
    file.write_text("half")
    (path.parent / "writing").touch()
    time.sleep(60)
"""


@pytest.fixture
def writer(older, tmp_path):
    """A process in the middle of writing a folder and a file."""
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(older)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "writing").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_a_kill_leaves_the_old_folder_and_the_next_start_cleans_up(writer, older, tmp_path):
    during = set(snapshot(tmp_path))
    assert any(name.startswith(".export-new-") for name in during)
    remove_leftovers(tmp_path)
    assert set(snapshot(tmp_path)) == during  # a live process is writing
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert (older / "weights").read_text() == "old"
    files._remove_leftovers.cache_clear()
    require_writable(tmp_path)
    assert set(snapshot(tmp_path)) == {"export", "export/weights", "writing"}


def test_a_folder_that_had_stepped_aside_is_put_back(tmp_path):
    for kind, text in (("old", "old"), ("new", "new")):
        folder = tmp_path / f".export-{kind}-abcdefgh"
        folder.mkdir()
        (folder / "weights").write_text(text)
    (tmp_path / ".export-new-mine").write_text("not of ours: another name")
    remove_leftovers(tmp_path)
    assert snapshot(tmp_path) == {
        "export": False,
        "export/weights": b"old",
        ".export-new-mine": b"not of ours: another name",
    }


def test_a_full_disk_is_said_and_leaves_what_was_there(older, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    before = snapshot(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("usage", (), {"free": 0}))
    for target, kind in ((older, lambda path: replaced_folder(path, MODEL)), (tmp_path / "file", replaced_file)):
        with (
            pytest.raises(OSError, match=rf"{target.name} could not be written: no space left.*free space"),
            kind(target),
        ):
            raise RuntimeError("PytorchStreamWriter failed writing file")
    assert snapshot(tmp_path) == before


def test_permissions_of_what_is_replaced_stay(older, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("old")
    secret.chmod(0o600)
    older.chmod(0o700)
    write_file(secret, "new")
    with replaced_folder(older, MODEL) as temporary:
        (temporary / "weights").touch(mode=0o600)  # as some libraries write
        (tmp_path / "plain").touch()
    assert secret.stat().st_mode & 0o777 == 0o600
    assert older.stat().st_mode & 0o777 == 0o700
    assert (older / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_written_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_file(tmp_path / "ours", b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PermissionError, match=r"cannot be written to .*choose another"):
        require_writable(tmp_path / "file" / "output")
