"""From words to options: what the commands' parsers have in common.

Shape legend: none.

Options come in groups, one per dataclass (`--srt.radius 3`). Three things make them short to type: a word given to a
group is its first field (`--backbone X` for `--backbone.name X`, `--davis ROOT` for `--davis.root ROOT`); a name
without its group will do where only one option ends so (`--radius 3`); and an option that takes several names takes
them as words or as a list, digits included (`--davis.sequences blackswan 0001`, `'[blackswan, 0001]'`).
"""

import difflib
import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from srt_distill.commands.brief_help import brief_help, group_help
from srt_distill.tasks import TASKS, Task

USAGE_ERROR = 2

Result = TypeVar("Result")


class CommandParser(ArgumentParser):
    """Options of a command, from the signature of the function that does it.

    Args:
        command: Its name.
        function: Its parameters are the options; those that are dataclasses become groups. `tasks` stands for all
            tasks, each a group of its own.
    """

    def __init__(self, command: str, function: Callable[..., Any]) -> None:
        description = (function.__doc__ or "").split("\n\n    Args:")[0]
        super().__init__(prog=f"srt-distill {command}", description=" ".join(description.split()))
        self.function = function
        hints = get_type_hints(function)
        self.add_argument("--config", action="config", help="YAML file of options.")
        self.add_function_arguments(function, as_group=False, skip={"tasks", "command"})
        grouped = {name: hint for name, hint in hints.items() if is_dataclass(hint) and name != "return"}
        self._first_fields = {name: fields(hint)[0].name for name, hint in grouped.items()}
        self._tasks = TASKS if "tasks" in hints else {}
        for name, task in self._tasks.items():
            self.add_class_arguments(task, name, skip={"root"}, instantiate=False)
            self.add_argument(f"--{name}.root", type=Path | None, help=describe_argument(task, "root"))
            self._first_fields[name] = "root"
        for action in self._actions:
            group = action.dest if action.dest in self._first_fields else None
            if group and action.option_strings == [f"--{group}"]:
                action.metavar = self._first_fields[group].upper()
                action.help = f"The same as --{group}.{self._first_fields[group]}."

    def explain(self, words: Sequence[str]) -> str | None:
        """Write the help that words ask for, short, of one group or all of it; None where they ask for none."""
        if {"-h", "--help"} & set(words):
            groups = {n: describe_argument(self.function, n) for n in self._first_fields if n not in self._tasks}
            tasks = {name: (task.__doc__ or "").splitlines()[0] for name, task in self._tasks.items()}
            return brief_help(self, groups, tasks)
        if "--help_all" in words:
            return self.format_help()
        asked = [name for name in self._first_fields if f"--{name}.help" in words]
        return group_help(self, asked[0]) if asked else None

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """Parse words to the function's arguments; `tasks` are those whose data was named.

        Raises:
            ValueError: If options of a task are given without its data, or a path is no local one.
            SystemExit: If a word is no option, or a value not of its type (status 2), or help was asked for (0).
        """
        explained = self.explain(words)
        if explained is not None:
            print(explained)
            raise SystemExit(0)
        namespace = self.parse_args(self.complete(words))
        expand_paths(namespace)
        built = self.instantiate(namespace)
        arguments = {name: built[name] for name in get_type_hints(self.function) if name in built}
        if self._tasks:
            arguments["tasks"] = [
                build(task, namespace[name]) for name, task in self._tasks.items() if self._is_named(namespace, name)
            ]
            needed = inspect.signature(self.function).parameters["tasks"].default is inspect.Parameter.empty
            if needed and not arguments["tasks"]:
                choices = ", ".join(f"--{name} ROOT" for name in self._tasks)
                raise ValueError(f"no task given; name the data of at least one: {choices}")
        if "command" in get_type_hints(self.function):
            arguments["command"] = shlex.join([*self.prog.split(), *words])
        return arguments

    def _is_named(self, namespace: Namespace, name: str) -> bool:
        if namespace[name].root is not None:
            return True
        defaults = self.get_defaults()[name]
        changed = [key for key, value in vars(namespace[name]).items() if value != defaults[key]]
        if changed:
            raise ValueError(f"--{name}.{changed[0]} is given, but no data for it; add --{name} ROOT")
        return False

    def complete(self, words: Sequence[str]) -> list[str]:
        """Write short forms out: a group's word, a name without its group, lists of names."""
        known = {option: action for action in self._actions for option in action.option_strings}
        complete: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--") or word == "--":
                complete.append(word)
                continue
            option, has_value, value = word.partition("=")
            option = self._full_name(option, known, words)
            hint = getattr(known.get(option), "_typehint", None)
            if not takes_names(hint):
                complete.append(option + has_value + value)
                continue
            values = [value] if has_value else []
            while not has_value and rest and not rest[0].startswith("--"):
                values.append(rest.pop(0))
            bare = len(values) == 1 and "dict[" in str(hint) and values[0].lstrip()[:1] != "{"
            complete += [option, values[0] if bare else quote_names(values)] if values else [option]
        return complete

    def _full_name(self, option: str, known: Mapping[str, Any], words: Sequence[str]) -> str:
        name = option.removeprefix("--").removesuffix("+")
        if name in self._first_fields:
            return f"{option}.{self._first_fields[name]}"
        if option in known:
            return option
        idle = [task for task in self._tasks if not any(re.match(rf"--{task}(\.root)?(=|$)", word) for word in words)]
        live = [given for given in known if given.partition(".")[0].removeprefix("--") not in idle]
        ends = [given for given in live if given.endswith(f".{name}")]
        if len(ends) == 1:
            return ends[0]
        if ends:
            self.refuse(f"--{name} may be {' or '.join(ends)}; write out which")
        near = difflib.get_close_matches(option, live, n=3) + [
            given for given in live if difflib.get_close_matches(name, [given.rpartition(".")[2]], cutoff=0.8)
        ]
        hint = f"; nearest: {', '.join(dict.fromkeys(near))}" if near else ""
        self.refuse(f"no option {option}{hint} (see --help)")

    def refuse(self, message: str) -> NoReturn:
        """Say what is wrong with the words, and exit with status 2."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


def as_command(function: Callable[..., Result], **types: Any) -> Callable[..., Result]:
    """Give a function of the library the signature of a command: the same options, declared once.

    Args:
        function: With its docstring, which becomes the help.
        **types: What the command line gives for parameters that take several types.
    """
    signature = inspect.signature(function)
    hints = {**get_type_hints(function), **types}
    narrowed = [part.replace(annotation=hints[name]) for name, part in signature.parameters.items()]

    def command(*given: Any, **named: Any) -> Result:
        return function(*given, **named)

    command.__doc__, command.__name__, command.__annotations__ = function.__doc__, function.__name__, hints
    command.__signature__ = signature.replace(parameters=narrowed)  # type: ignore[attr-defined]
    return command


def describe_argument(owner: Callable[..., Any], name: str) -> str:
    """Find what the docstring of a class or function says of an argument."""
    from docstring_parser import parse

    return next((p.description or "" for p in parse(owner.__doc__ or "").params if p.arg_name == name), "")


def build(task: type[Task], options: Namespace) -> Task:
    """Make a task of its parsed options, nested dataclasses included."""
    return build_dataclass(task, options)


def build_dataclass(owner: Any, options: Any) -> Any:
    """Make a dataclass of a namespace with its fields, recursively."""
    hints = get_type_hints(owner)
    values = {}
    for item in fields(owner):
        value = options[item.name]
        if isinstance(value, list) and "tuple" in str(hints[item.name]):
            value = tuple(value)
        values[item.name] = build_dataclass(hints[item.name], value) if is_dataclass(hints[item.name]) else value
    return owner(**values)


def takes_names(hint: Any) -> bool:
    """Tell whether an option takes several names or paths, such as `list[str]` or `dict[str, Path]`."""
    return bool(re.search(r"(list|tuple|dict|Sequence|Mapping)\[", str(hint))) and not re.search(
        r"\[(int|float)[,\]]", str(hint)
    )


def quote_names(values: Iterable[str]) -> str:
    """Write names in words or in brackets as JSON, so that none is read as a number."""
    values = list(values)
    text = values[0].strip()
    if len(values) == 1 and text in ("null", "None"):
        return "null"
    if len(values) == 1 and text.startswith("{") and text.endswith("}"):
        pairs = [re.split(r":\s+|:(?=[^\s\\/])|:$", item, maxsplit=1) for item in split_items(text[1:-1])]
        return json.dumps({unquote(pair[0]): unquote(pair[-1]) for pair in pairs})
    if len(values) == 1 and text.startswith("[") and text.endswith("]"):
        return json.dumps([unquote(item) for item in split_items(text[1:-1])])
    return json.dumps([unquote(value) for value in values])


def split_items(text: str) -> list[str]:
    """Split at commas outside of quotes; blank items are left out."""
    items = re.findall(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[^,"'])+""", text)
    return [item.strip() for item in items if item.strip()]


def unquote(text: str) -> str:
    """Take one pair of quotes off."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return str(json.loads(text))
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == "'" else text


def expand_paths(namespace: Namespace) -> None:
    """Take `~` for the home folder where the shell left it alone, in place, and refuse addresses as folders.

    Raises:
        ValueError: If a path is an address such as `s3://bucket/x`.
    """
    for key, value in list(namespace.items(branches=False)):
        namespace[key] = expand(value, f"--{key}")


def expand(value: Any, option: str) -> Any:
    """Expand `~` in a path, or in every path of a list or dictionary.

    Args:
        value: Of any type.
        option: Where it was given, for the message.

    Raises:
        ValueError: If a path is an address.
    """
    if isinstance(value, Path):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(value)):
            raise ValueError(f"{option} {value} is an address, not a folder of this machine; give a local path")
        return value.expanduser()
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    if isinstance(value, list):
        return [expand(item, option) for item in value]
    return {k: expand(v, option) for k, v in value.items()} if isinstance(value, dict) else value
