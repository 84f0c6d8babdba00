"""Help on a screen or two: a command's own options, a line for each group of them and each task, the rest on request.

Shape legend: none.
"""

import argparse
import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from jsonargparse import ArgumentParser


def brief_help(parser: ArgumentParser, groups: Mapping[str, str], tasks: Mapping[str, str]) -> str:
    """Explain a command without the options inside of groups.

    Args:
        parser: Of the command.
        groups: What a group of options is, in a line, by its name.
        tasks: What a task is, in a line, by its name; its options are a group too.
    """
    behind = {f"--{name}" for name in (*groups, *tasks)}
    own = [
        action
        for action in parser._actions
        if not any(option.partition(".")[0] in behind for option in action.option_strings)
    ]
    sections = {"options, --help_all for those inside of groups too": own}
    for title, said in (("groups of options", groups), ("tasks, each by its data", tasks)):
        if said:
            example = next(iter(said))
            sections[f"{title} (--{example}.help shows those of {example})"] = _stand_for(parser, said)
    return _write(parser, f"{parser.prog} [--config CONFIG] [options]", sections)


def group_help(parser: ArgumentParser, name: str) -> str:
    """Explain the options of one group, or of a task.

    Args:
        parser: Of the command.
        name: Of the group.
    """
    inside = [
        action for action in parser._actions if any(o.partition(".")[0] == f"--{name}" for o in action.option_strings)
    ]
    return _write(parser, f"{parser.prog} [--{name}.OPTION VALUE ...]", {f"options of {name}": inside})


def _stand_for(parser: ArgumentParser, said: Mapping[str, str]) -> list[argparse.Action]:
    """Make one action for each group, with what is said of it."""
    options = {option: action for action in parser._actions for option in action.option_strings}
    actions = []
    for name, text in said.items():
        action = copy.copy(options[f"--{name}"])
        action.help, action.default = text.replace("%", "%%"), argparse.SUPPRESS
        actions.append(action)
    return actions


def _write(parser: ArgumentParser, usage: str, sections: Mapping[str, Sequence[argparse.Action]]) -> str:
    """Write help as the parser does, with other sections than its own."""
    shown = copy.copy(parser)
    shown.usage = usage
    written = [SimpleNamespace(title=t, description=None, _group_actions=actions) for t, actions in sections.items()]
    shown._action_groups = written  # type: ignore[assignment]  # what is read of a group when help is written
    return shown.format_help()
