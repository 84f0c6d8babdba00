"""Command line and YAML of a training run: `trainer`, `model` and `data`, each the arguments of its class.

Shape legend: none.
"""

import difflib
import inspect
import pydoc
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import yaml
from jsonargparse import ArgumentParser, Namespace
from pytorch_lightning.loggers import Logger

from srt_distill import data
from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.parsing import USAGE_ERROR, expand, expand_paths
from srt_distill.data import UnlabeledImages
from srt_distill.loggers import CLASS_NAMES, LoggerName
from srt_distill.training.averaging import AveragedWeights  # noqa: F401  so that --trainer.callbacks knows it
from srt_distill.training.callbacks import TaskScores  # noqa: F401  so that --trainer.callbacks knows it
from srt_distill.training.configs import DEFAULT, find_config, list_configs
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.rounds import RunParts
from srt_distill.training.settings import TargetSRTOptions

FIRST_FIELDS = {
    "model.backbone": "name",
    "model.origin": "name",
    "model.srt": "radius",
    "model.trainable": "part",
    "model.penalty": "kind",
}
"""Groups of options that a bare word may be given to, and the option it then is."""

SHOWN = (
    *("config", "trainer.default_root_dir", "resume", "rounds", "checkpoint_every", "patience", "seed_everything"),
    *("model.backbone.name", "model.backbone.weights", "model.layers", "model.layer_weights", "model.srt.radius"),
    *("model.srt.interpolation", "model.target", "model.readout", "model.loss", "model.trainable.part"),
    *("model.optimizer", "data.source", "data.crop_size", "data.scale", "data.batch_size", "data.num_workers"),
    *("data.held_out", "data.views", "trainer.max_steps", "trainer.max_epochs", "trainer.max_time"),
    *("trainer.val_check_interval", "trainer.accelerator", "trainer.devices", "trainer.precision"),
    *("trainer.logger", "trainer.callbacks"),
)
"""Options that the short help shows."""

SOURCES = [name for name in data.__all__ if name not in ("ImageSource", "UnlabeledImages")]
"""What `data.source` may be by a short name."""

LoggerSetting = LoggerName | list[LoggerName] | Logger | Iterable[Logger] | bool | None
"""What `--trainer.logger` may be: a word, or a logger written out with options of its own."""

ENDS = ("max_epochs", "max_time")
"""Given without `max_steps`, they take the place of the default recipe's number of steps."""


class BriefParser(ArgumentParser):
    """Says what is wrong with a command line in a few lines, with the nearest option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say it, and exit with status 2."""
        if not self.exit_on_error:  # a parser within the parser, whose errors are the outer one's to tell
            super().error(message, ex)
        known = [option for action in self._actions for option in action.option_strings]
        wrong = [word for word in message.replace("'", " ").split() if word.startswith("--")]
        near = [name for word in wrong for name in difflib.get_close_matches(word.partition("=")[0], known, n=2)]
        near += _near_arguments(message)
        if '"trainer.logger"' in message:  # and not what each of the types that it may have says of the value
            given = message.strip().splitlines()[-1].removeprefix("  Given value: ")
            message = f"trainer.logger {given!r} is none; give {_FROM_LIGHTNING['trainer.logger']}"
        hint = f"\nnearest: {', '.join(dict.fromkeys(near))}" if near else ""
        hint += f"\nsources: {', '.join(SOURCES)}" if '"data.source"' in message else ""
        print(f"{self.prog}: {message.strip()}{hint}\n(see --help)", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


class RunParser:
    """Reads what a run is made of. The default recipe comes first, then `--config`, then the command line.

    Args:
        command: Name of the command.
        description: What the help says.
    """

    def __init__(self, command: str, description: str) -> None:
        defaults: list[str | PathLike] = [find_config(DEFAULT)]
        usage = f"srt-distill {command} [--config NAME_OR_FILE] [options]"
        self.parser = BriefParser(
            prog=f"srt-distill {command}", usage=usage, description=description, default_config_files=defaults
        )
        configs = ", ".join(list_configs())
        self.parser.add_argument("-c", "--config", action="config", help=f"YAML of a run, or one of {configs}.")
        self.parser.add_argument("--seed_everything", type=int, default=0, help="The seed of all that is random.")
        self.parser.add_class_arguments(pl.Trainer, "trainer", instantiate=False, fail_untyped=False, skip={"logger"})
        self.parser.add_argument("--trainer.logger", type=LoggerSetting, help=_FROM_LIGHTNING["trainer.logger"])
        self.parser.add_class_arguments(SRTDistillation, "model")
        self.parser.add_class_arguments(UnlabeledImages, "data")
        self.parser.set_defaults({"trainer.default_root_dir": "runs/srt_distill"})
        self.parser.link_arguments("seed_everything", "model.seed")
        self.parser.link_arguments("seed_everything", "data.seed")
        self.parser.link_arguments("model.srt", "data.margin", compute_fn=_margin)
        self.parser.link_arguments("model", "data.patch", compute_fn=_patch, apply_on="instantiate")

    def read(self, words: Sequence[str]) -> Namespace:
        """Parse words to a run's configuration.

        Raises:
            FileNotFoundError: If a config is not found.
            SystemExit: If a word is no option, a value not of its type (status 2), or help was asked for (0).
        """
        if "--help" in words or "-h" in words:
            print(self.short_help())
            raise SystemExit(0)
        if "--help_all" in words:
            self.parser.print_help()
            raise SystemExit(0)
        complete, given = self._complete(words)
        config = self.parser.parse_args(complete)
        ends_otherwise = any(f"trainer.{name}" in given and config.trainer[name] is not None for name in ENDS)
        if ends_otherwise and "trainer.max_steps" not in given:
            config.trainer.max_steps = -1
        expand_paths(config)
        folder = "trainer.default_root_dir"
        config[folder] = str(expand(Path(config[folder]), f"--{folder}"))
        pl.seed_everything(config.seed_everything, workers=True, verbose=False)
        return config

    def _complete(self, words: Sequence[str]) -> tuple[list[str], set[str]]:
        """Write short forms out, and tell which options were given, on the command line or in a YAML."""
        known = [option for action in self.parser._actions for option in action.option_strings]
        complete: list[str] = []
        given: set[str] = set()
        rest = list(words)
        while rest:
            option, has_value, value = rest.pop(0).partition("=")
            if option.startswith("--") and option not in known:  # a name without its group, where only one ends so
                option = _full_name(option, known)
            name = option.removeprefix("--")
            if name in FIRST_FIELDS and (has_value or (rest and not rest[0].startswith(("{", "--")))):
                option = f"{option}.{FIRST_FIELDS[name]}"
            if option in ("-c", "--config") and (has_value or rest):
                path = find_config(value if has_value else rest.pop(0))
                given |= set(_flat_names(yaml.safe_load(path.read_text()) or {}))
                option, has_value, value = "--config", "=", str(path)
            if option == "--trainer.logger" and not any(word.startswith("--trainer.logger.") for word in words):
                value = CLASS_NAMES.get(value, value)  # type: ignore[arg-type]
                rest[:1] = [CLASS_NAMES.get(word, word) for word in rest[:1]]
            given.add(option.removeprefix("--"))
            complete.append(option + has_value + value)
        return complete, given

    def make_run(self, config: Namespace, backbone: BackboneOptions, origin: BackboneOptions | None) -> RunParts:
        """Put a run together, from a backbone that need not be the config's.

        Raises:
            OSError: If the backbone or the images are not found.
            ValueError: If options fit nothing.
        """
        config = config.clone()
        for name, options in (("backbone", backbone), ("origin", origin)):
            config.model[name] = None if options is None else Namespace(asdict(options))
        try:
            built = self.parser.instantiate(config)
        except ValueError as error:  # of a link, whose message would show the whole model before what went wrong
            raise (error.__cause__ if "compute_fn of link" in str(error) and error.__cause__ else error) from None
        return RunParts(built.model, built.data, dict(built.trainer.__dict__), self.write(config))

    def write(self, config: Namespace) -> str:
        """Write a configuration as YAML, complete with what is null, so that it is a run again."""
        config = config.clone()
        config.resume = None
        return self.parser.dump(config, skip_unset=False)

    def short_help(self) -> str:
        """Explain the options that most runs need."""
        lines = [
            f"usage: {self.parser.usage}",
            "",
            str(self.parser.description),
            "",
            "options (--help_all shows all of them):",
        ]
        actions = {action.dest: action for action in self.parser._actions}
        for name in SHOWN:
            if name not in actions:
                continue
            text = " ".join(str(_FROM_LIGHTNING.get(name) or actions[name].help or "").split())
            lines += [f"  --{name}", *([f"      {text}"] if text else [])]
        return "\n".join(lines)


_FROM_LIGHTNING = {
    "trainer.max_steps": "Steps of the run; -1 for as many as epochs or time allow.",
    "trainer.max_epochs": "Passes over the images.",
    "trainer.max_time": "Time of the run, days:hours:minutes:seconds, such as 00:01:30:00; the rate falls to its end.",
    "trainer.val_check_interval": "Steps between two measurements on held-out images.",
    "trainer.accelerator": "cpu, gpu, mps and so on; auto takes what is there.",
    "trainer.devices": "How many, or which.",
    "trainer.precision": "32-true, bf16-mixed and so on.",
    "trainer.logger": "tensorboard (the default), csv, wandb or mlflow, several in brackets, or false for none.",
    "trainer.callbacks": "More callbacks, such as --trainer.callbacks+=TaskScores or AveragedWeights.",
    "trainer.default_root_dir": "Folder of the run.",
}


def _full_name(option: str, known: Sequence[str]) -> str:
    """Put the group before an option, or before an argument of one (`--optimizer.lr`), where only one ends so."""
    head, dot, argument = option.removeprefix("--").partition(".")
    whole = [name for name in known if name.endswith(f".{head}{dot}{argument}")]
    owners = [name for name in known if name.endswith(f".{head}")] if dot else []
    if len(whole) == 1:
        return whole[0]
    return f"{owners[0]}.{argument}" if not whole and len(owners) == 1 else option


def _near_arguments(message: str) -> list[str]:
    """Name arguments of a class that are like one that it does not accept, of a parser's message about that."""
    refused = re.search(r"class_path '([\w.]+)':\s+Option '(\w+)' is not accepted", message)
    found = pydoc.locate(refused[1]) if refused else None
    if refused is None or not callable(found):
        return []
    return difflib.get_close_matches(refused[2], list(inspect.signature(found).parameters), n=2)


def _margin(srt: Any) -> int:
    values = srt if isinstance(srt, dict) else vars(srt)
    return TargetSRTOptions(radius=values["radius"], border=values["border"]).margin


def _patch(model: SRTDistillation) -> int:
    return model.patch_size


def _flat_names(settings: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in settings.items():
        names.append(f"{prefix}{name}")
        names += _flat_names(value, f"{prefix}{name}.") if isinstance(value, dict) else []
    return names


def backbone_options(value: Any) -> BackboneOptions | None:
    """Make options of a backbone out of their part of a configuration; None of none."""
    return None if value is None else BackboneOptions(**vars(value))


def run_folder(config: Namespace) -> Path:
    """Return the folder of the run that a configuration describes."""
    return Path(config.trainer.default_root_dir)
