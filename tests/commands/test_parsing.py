"""Words to options: groups, short names, names made of digits, paths."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from srt_distill.commands.compare import compare
from srt_distill.commands.embed import embed
from srt_distill.commands.evaluate import evaluate
from srt_distill.commands.overlay import overlay
from srt_distill.commands.parsing import CommandParser, quote_names
from srt_distill.commands.visualize import visualize
from srt_distill.tasks import TASKS
from tests.comparison.toy import Brightness

BASE = ["--backbone", "vit_tiny_patch16_224", "--output", "out", "--davis", "data"]


def read(*words, command=evaluate):
    return CommandParser(command.__name__, command).read([*BASE, *words])


def test_a_groups_word_is_its_first_field():
    arguments = read("--backbone.weights", "w.pth")
    assert (arguments["backbone"].name, arguments["backbone"].weights) == ("vit_tiny_patch16_224", "w.pth")
    (task,) = arguments["tasks"]
    assert task.root == Path("data")


def test_a_name_without_its_group_will_do_where_it_is_the_only_one():
    arguments = read("--radius", "3", "--top_k=7", "--davis.scale", "0.5")
    assert arguments["srt"].radius == 3
    assert (arguments["tasks"][0].propagation.top_k, arguments["tasks"][0].scale) == (7, 0.5)


@pytest.mark.parametrize(("typo", "nearest"), [("--radios", "--srt.radius"), ("--davis.sequence", "--davis.sequences")])
def test_a_typo_names_the_nearest(capsys, typo, nearest):
    with pytest.raises(SystemExit) as exit_info:
        read(typo, "3")
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert typo in said and nearest in said


@pytest.mark.parametrize("words", [["0001", "1e10", "2017"], ["[0001, 1e10, 2017]"], ['["0001", "1e10", "2017"]']])
def test_names_made_of_digits_are_names(words):
    assert read("--sequences", *words)["tasks"][0].sequences == ("0001", "1e10", "2017")


def test_one_name_is_a_list_of_one_and_null_is_none():
    assert read("--sequences", "cats")["tasks"][0].sequences == ("cats",)
    assert read("--sequences", "null")["tasks"][0].sequences is None
    words = ["--davis", "data", "--output", "out", "--masks", "{1: a/b, 'mine, too': /c}", "--sequences", "[007]"]
    arguments = CommandParser("overlay", overlay).read(words)
    assert arguments["masks"] == {"1": Path("a/b"), "mine, too": Path("/c")}
    assert arguments["sequences"] == ["007"]
    words = ["--backbone", "x", "--output", "out", "--sources", "2017", "--layers", "[-1, 8:key]"]
    arguments = CommandParser("visualize", visualize).read(words)
    assert (arguments["sources"], list(arguments["layers"])) == ([Path("2017")], [-1, "8:key"])


def test_quoting():
    assert quote_names(["[]"]) == "[]"
    assert quote_names(["['a, b', c]"]) == '["a, b", "c"]'


def test_home_is_expanded_and_an_address_is_no_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    arguments = CommandParser("evaluate", evaluate).read(["--backbone=~/m", "--output=~/out", "--davis=~/data"])
    assert (arguments["backbone"].name, arguments["output"]) == ("/home/me/m", Path("/home/me/out"))
    assert arguments["tasks"][0].root == Path("/home/me/data")
    with pytest.raises(ValueError, match=r"--output s3:/+bucket/x is an address"):
        CommandParser("evaluate", evaluate).read(["--backbone", "m", "--output", "s3://bucket/x", "--davis", "d"])


def test_a_task_without_data_is_not_judged_on_and_options_without_data_are_refused():
    words = ["--backbone", "m", "--output", "out"]
    with pytest.raises(ValueError, match="no task given"):
        CommandParser("evaluate", evaluate).read(words)
    with pytest.raises(ValueError, match=r"--davis\.scale is given, but no data for it; add --davis ROOT"):
        CommandParser("evaluate", evaluate).read([*words, "--davis.scale", "0.5"])


def test_a_task_of_ones_own_is_an_option_by_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(TASKS, "brightness", Brightness)
    for command in (evaluate, compare):
        models = ["--backbone", "m"] if command is evaluate else ["--teacher", "m", "--student", "n"]
        words = [*models, "--output", "out", "--brightness", str(tmp_path), "--bias", "0.5"]
        (task,) = CommandParser(command.__name__, command).read(words)["tasks"]
        assert task == Brightness(tmp_path, 0.5)
        brief = explained(command, "--help")
        assert "--brightness ROOT" in brief and "--brightness.bias" not in brief
        for request in ("--brightness.help", "--help_all"):
            assert "--brightness.bias" in explained(command, request)
            assert "Added to every answer" in explained(command, request)


def explained(command, *words):
    """Return what a command prints when help is asked for."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        CommandParser(command.__name__, command).read(words)
    assert end.value.code == 0
    return printed.getvalue()


@pytest.mark.parametrize("command", [evaluate, compare, embed, visualize, overlay])
def test_help_fits_a_screen_or_two_and_the_rest_is_behind_groups(command):
    brief, everything = explained(command, "--help"), explained(command, "--help_all")
    assert brief.count("\n") < 100
    names = set(re.findall(r"--[\w.]+", everything))
    groups = {name.partition(".")[0].removeprefix("--") for name in names if "." in name}
    reached = set(re.findall(r"--[\w.]+", brief))
    for group in groups:
        reached |= set(re.findall(r"--[\w.]+", explained(command, f"--{group}.help")))
    assert names - reached == set()


def test_help_of_a_group_is_that_group_alone():
    said = explained(compare, "--srt.help", "--teacher", "m")
    assert "d, the shift radius in pixels" in said and "default: 3" in said
    assert "--teacher" not in said and "--davis" not in said


def test_the_command_is_recorded():
    words = ["--teacher", "m", "--student", "my run", "--output", "out", "--davis", "data"]
    assert CommandParser("compare", compare).read(words)["command"] == (
        "srt-distill compare --teacher m --student 'my run' --output out --davis data"
    )
