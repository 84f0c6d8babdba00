"""How every command ends: as the table of the documentation says, in words, and without a traceback."""

import importlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from srt_distill.cli import COMMANDS, main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command_line.md"


def interrupt(_):
    raise KeyboardInterrupt


def terminate(_):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def refuse(_):
    raise ValueError("radius 9 is too large; use at most 7")


def miss(_):
    raise FileNotFoundError("no folder nowhere; give one that exists")


ENDS = {
    "done": (lambda _: None, 0),
    "refused": (refuse, 1),
    "failed half-way": (miss, 1),
    "Ctrl-C": (interrupt, 130),
    "TERM": (terminate, 143),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_as_the_table_says(command, end, monkeypatch, capsys):
    act, status = ENDS[end]
    monkeypatch.setattr(importlib.import_module(f"srt_distill.commands.{command}"), "run", act)
    before = signal.getsignal(signal.SIGTERM)
    assert main([command]) == status
    assert signal.getsignal(signal.SIGTERM) is before
    said = capsys.readouterr()
    assert "Traceback" not in said.err and said.out == ""
    assert bool(said.err) == (status != 0)
    if status in (130, 143):
        assert f"{command}: stopped by SIG" in said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_words_that_it_does_not_know_with_2(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--no_such_option", "3"])
    assert end.value.code == 2
    assert "no_such_option" in capsys.readouterr().err


def test_the_table_has_all_codes_and_no_other():
    table = PAGE.read_text().partition("## Exit codes")[2]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)} == {
        *(status for _, status in ENDS.values()),
        2,
    }


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)

    def work(_):
        print("some lines", flush=True)
        print("more lines", file=sys.stderr)
        (tmp_path / "result").write_text("done")

    monkeypatch.setattr(importlib.import_module("srt_distill.commands.evaluate"), "run", work)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        monkeypatch.setattr(sys, "stderr", pipe)
        assert main(["evaluate"]) == 0
    assert (tmp_path / "result").read_text() == "done"
