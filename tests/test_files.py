"""Files and folders that are complete or absent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from srt_distill.files import replaced_file, replaced_folder, require_writable, write_file


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(OSError, match="disk full"), replaced_file(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights").write_text("old")
    with pytest.raises(OSError, match="disk full"), replaced_folder(folder) as temporary:
        (temporary / "weights").write_text("half")
        raise OSError("disk full")
    assert (folder / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["export"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "stale").write_text("old")
    with replaced_folder(folder) as temporary:
        (temporary / "fresh").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["fresh"]
    assert [p.name for p in tmp_path.iterdir()] == ["export"]


def test_a_kill_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights").write_text("old")
    script = (
        "import sys, time; from pathlib import Path; from srt_distill.files import replaced_folder\n"
        "with replaced_folder(Path(sys.argv[1])) as t:\n"
        "    (t / 'weights').write_text('half'); (Path(sys.argv[1]).parent / 'writing').touch(); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "writing").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / "weights").read_text() == "old"


def test_written_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_file(tmp_path / "ours", b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PermissionError, match=r"cannot be written to .*choose another"):
        require_writable(tmp_path / "file" / "output")
