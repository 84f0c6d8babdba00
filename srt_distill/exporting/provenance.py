"""Where a student comes from, in words that hold on any machine: no path of this one, nothing that is not known.

Shape legend: none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
HUB_LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "apple-ascl", "apple-amlr", "gemma")
"""Licences of timm's models that the hub knows by these names; it takes others as `other` with a name."""


@dataclass(frozen=True)
class Source:
    """Where the weights of a teacher come from.

    Attributes:
        title: What a reader knows it by: a model's name, a folder's or a file's without what leads to it.
        repository: Its repository on the Hugging Face hub, where that is known.
    """

    title: str
    repository: str | None


def find_source(name: str, weights: str | None, tag: str | None) -> Source:
    """Find out what a backbone's name and weights file say of where it comes from.

    Args:
        name: timm name, `hf-hub:<repository>`, `local-dir:<folder>`, or a folder or file.
        weights: Weights file that was given with it, if any.
        tag: timm's tag of the weights, for a name without one.

    Returns:
        The source; local folders and files by their names only, and of no known repository.
    """
    if weights is not None:
        return Source(f"{last_part(name)} with {last_part(weights)}", None)
    kind, _, rest = name.partition(":")
    if kind == "hf-hub":
        return Source(name, rest)
    if kind == "local-dir" or last_part(name) != name or Path(name).exists():
        return Source(f"{last_part(name)} (a local folder)", None)
    architecture, _, named = name.partition(".")
    tag = named or tag
    return Source(name, f"timm/{architecture}.{tag}" if tag else None)


def find_teachers(settings: Mapping[str, Any], tag: str | None) -> tuple[Source, Source | None]:
    """Find out where a run's teacher, and that of the first of several rounds, come from.

    Args:
        settings: Of the run: `backbone` and `origin` with `name` and `weights` each; `origin` may be None.
        tag: timm's tag of the teacher's weights.

    Returns:
        The teacher's source; the first teacher's, of a later round.
    """
    backbone, origin = settings["backbone"], settings.get("origin")
    teacher = find_source(backbone["name"], backbone.get("weights"), None if origin else tag)
    return teacher, None if origin is None else find_source(origin["name"], origin.get("weights"), tag)


def describe_license(name: str | None) -> dict[str, str]:
    """Give the fields of a model card that state a licence as timm names it; none where it names none."""
    if not name or name == "unknown":
        return {}
    return {"license": name} if name in HUB_LICENSES else {"license": "other", "license_name": name}


def find_datasets(data_settings: Mapping[str, Any]) -> list[str]:
    """Find the data sets on the hub that a run's data settings name; folders and files of one's own are none."""
    source = data_settings.get("source")
    arguments = source.get("init_args") or {} if isinstance(source, Mapping) else {}
    name = arguments.get("name")
    return [name] if isinstance(name, str) and _is_repository(name) else []


def without_paths(value: Any, key: str = "") -> Any:
    """Copy settings with every path cut to its last part, and everything else made a primitive.

    Args:
        value: Settings: strings, numbers, lists and mappings of such.
        key: What the value is called; only a `name` can be that of a repository.

    Returns:
        The same without what leads to files and folders; names of repositories stay.
    """
    if isinstance(value, Mapping):
        return {str(name): without_paths(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(item, key) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    kind, colon, rest = text.partition(":")
    if kind == "hf-hub" or (key == "name" and _is_repository(text)):
        return text
    return f"{kind}:{last_part(rest)}" if colon and kind == "local-dir" else last_part(text)


def last_part(path: str) -> str:
    """Give the name of a file or folder without what leads to it, however its path is written."""
    _, _, bare = path.rpartition("local-dir:")
    for flavour in (PurePosixPath, PureWindowsPath):
        bare = flavour(bare).name or bare
    return bare if bare not in (".", "..", "~") else Path(bare).expanduser().resolve().name


def _is_repository(name: str) -> bool:
    return bool(REPOSITORY.fullmatch(name)) and not name.startswith(".") and not Path(name).exists()
