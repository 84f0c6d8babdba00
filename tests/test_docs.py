"""README and documentation: their Python runs, their command lines parse, what they name exists."""

import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from jsonargparse import auto_parser
from PIL import Image

import srt_distill
from srt_distill.cli import COMMANDS
from srt_distill.commands.parsing import CommandParser
from srt_distill.commands.run_parser import RunParser
from srt_distill.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"srt-distill", "make", "python", "git", "cd", "pip", "tensorboard", "torchrun"}
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def find_blocks(path: Path) -> Iterator[Block]:
    """Fenced blocks of a page; what is indented by four spaces and begins with a program counts as a shell's."""
    page = path.relative_to(ROOT).as_posix()
    text = path.read_text()
    for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL):
        yield Block(page, text[: match.start()].count("\n") + 1, match[2], textwrap.dedent(match[3]))
    fenced = re.sub(r"^( *)```.*?^\1```$", lambda m: "\n" * m[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"(?<=\n\n)(?:    [^\n]*\n)+", fenced):
        if match[0].split()[0] in PROGRAMS:
            yield Block(page, fenced[: match.start()].count("\n") + 1, "bash", textwrap.dedent(match[0]))


BLOCKS = [block for path in PAGES for block in find_blocks(path)]
PYTHON_PAGES = sorted({block.page for block in BLOCKS if block.language == "python"})


def command_lines(block: Block) -> Iterator[str]:
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split(" && "):
            if command.strip() and not command.startswith("#"):
                yield command.split("  #")[0].strip()


LINES = [(block, line) for block in BLOCKS if block.language == "bash" for line in command_lines(block)]
OURS = [(block, line) for block, line in LINES if line.startswith("srt-distill ")]
NEEDED = {
    "adapt": "",
    "cache": "--config demo --data.views 1 --output o",
    "embed": "--backbone b --images i --output o.parquet",
    "evaluate": "--backbone b --output o",
    "export": "--checkpoint c --output o",
    "fit": "--model.backbone b --data.source ImageFolder --data.source.root r",
}


def inline_commands(path: Path) -> Iterator[tuple[Block, str]]:
    """Command lines in running text and tables, of which only what matters is shown: what else is needed is added."""
    page = path.relative_to(ROOT).as_posix()
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        for command, shown in re.findall(r"`srt-distill ([a-z]+) ([^`]*-[^`]*)`", text):
            given = shown.replace("…", "b").replace("out/x/config.yaml", "demo")
            words = f"{given} demo" if given.endswith("--config") else given
            yield Block(page, number, "bash", text), f"srt-distill {command} {NEEDED[command]} {words}"


OURS += [found for path in PAGES for found in inline_commands(path)]


@pytest.fixture
def stand_ins(tmp_path, tiny_folder, tiny_davis, monkeypatch) -> dict[str, str]:
    """What the placeholders of the pages stand for, in a working folder of their own."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.jpg")
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "mine").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    return {
        "vit_small_patch16_224.dino": f"local-dir:{tiny_folder}",
        "path/to/images": str(images),
        "path/to/DAVIS": str(tiny_davis),
    }


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_python_of_a_page_runs_from_top_to_bottom(page, stand_ins):
    names: dict = {"__name__": "docs"}
    for block in BLOCKS:
        if (block.page, block.language) == (page, "python"):
            text = block.text
            for placeholder, value in stand_ins.items():
                text = text.replace(placeholder, value)
            exec(compile("\n" * block.line + text, page, "exec"), names)


class Parsed(BaseException):
    """Thrown where a command would begin to work."""


@pytest.mark.parametrize(("block", "line"), OURS, ids=[f"{b.page}:{b.line}: {line}" for b, line in OURS])
def test_a_command_line_is_one_that_the_command_takes(block, line, monkeypatch):
    for parser in (CommandParser, RunParser):

        def stop(self, words, read=parser.read):
            read(self, words)
            raise Parsed

        monkeypatch.setattr(parser, "read", stop)

    def parse_only(function, args, as_positional, prog):
        auto_parser(function, as_positional=as_positional, prog=prog).parse_args(args)
        raise Parsed

    monkeypatch.chdir(ROOT)
    _, name, *words = shlex.split(line)
    assert name in COMMANDS or name.startswith("-") or name == "COMMAND"
    if name in COMMANDS:
        command = importlib.import_module(f"srt_distill.commands.{name}")
        monkeypatch.setattr(command, "auto_cli", parse_only, raising=False)
        with pytest.raises((Parsed, SystemExit)) as end:
            command.run(words)
        assert end.type is Parsed or end.value.code == 0


def test_other_command_lines_are_of_things_that_exist():
    for block, line in LINES:
        words = shlex.split(line)
        if words[0] == "make":
            assert set(words[1:]) <= set(TARGETS), (block.page, line)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), (block.page, line)
        else:
            assert words[0] in PROGRAMS, (block.page, line)


def test_files_that_pages_name_exist():
    for path in PAGES:
        for name in re.findall(r"`((?:recipes|configs|docs|tests|srt_distill)/[\w./-]+)`", path.read_text()):
            assert (ROOT / name.rstrip("…")).exists(), (path.name, name)
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), ("README.md", target)


def test_no_page_names_a_folder_of_one_machine():
    here = "|".join(map(re.escape, (f"{ROOT}", f"{Path.home()}/", "../shared")))
    for path in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        found = re.findall(rf"(?:{here}|/home/\w)[^\s`)]*", path.read_text())
        assert not found, (path.relative_to(ROOT), found)


def test_every_page_is_in_the_navigation():
    def pages(entries) -> Iterator[str]:
        for entry in entries:
            if isinstance(entry, str):
                yield entry
            elif isinstance(entry, dict):
                for value in entry.values():
                    yield from pages([value] if isinstance(value, str) else value)

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]}


def test_nothing_that_a_user_calls_is_undocumented():
    """Commands, tasks, public names, formats and losses."""
    from typing import get_args

    from srt_distill.exporting.student import Format
    from srt_distill.training.losses import Loss

    text = {path.stem: path.read_text() for path in PAGES}
    for name in COMMANDS:
        assert f"`{name}`" in text["command_line"], name
    for name, task in TASKS.items():
        assert f"--{name} " in text["tasks"], name
        assert f"::: {task.__module__}.{task.__qualname__}" in text["tasks"], name
    for name in srt_distill.__all__:
        home = getattr(srt_distill, name)
        assert f"::: {home.__module__}.{home.__qualname__}" in text["api"], name
    for name in get_args(Format):
        assert f"`{name}`" in text["export"], name
    for name in get_args(Loss):
        assert f"`{name}`" in text["training"], name
