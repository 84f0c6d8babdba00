"""What a backbone name means: a timm name, `local-dir:<folder>` or `hf-hub:<repository>`.

Shape legend: none, only names and construction arguments are handled here.
"""

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.models import load_model_config_from_hf

from srt_distill.hub import fetching


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone comes from.

    Attributes:
        name: What `timm.create_model` is called with.
        architecture: timm's name of the architecture, without the tag of the weights.
        model_args: Construction arguments stored beside the weights (empty for a plain timm name).
        weights: The weights file of a local folder, `None` for weights from the hub.
    """

    name: str
    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None


def nearest_models(name: str, num: int = 5) -> list[str]:
    """Names timm knows that look most like `name`.

    Args:
        name: A timm model name, mistyped or not; a tag after the dot is ignored.
        num: At most this many are returned.

    Returns:
        Model names, most alike first; empty if nothing is alike.
    """
    return difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=num, cutoff=0.5)


def resolve_name(name: str) -> BackboneSource:
    """Find out what a backbone name means, without building anything.

    Args:
        name: timm name (`vit_small_patch16_224.dino`), `local-dir:<folder>` or `hf-hub:<owner>/<repository>`.

    Returns:
        The source, checked: the architecture is one that timm can build.

    Raises:
        FileNotFoundError: If a local folder lacks `config.json`.
        OSError: If the hub's repository could not be read.
        ValueError: If the name, its tag or the stored architecture is unknown.
    """
    prefix, _, rest = name.partition(":")
    if prefix == "local-dir":
        return _resolve_folder(name, Path(rest))
    if prefix == "hf-hub":
        with fetching(name, "give a local-dir:<folder>"):
            _, architecture, model_args = load_model_config_from_hf(rest)
        _check_architecture(architecture)
        return BackboneSource(name, architecture, dict(model_args or {}))
    if Path(name).is_dir():
        raise ValueError(f"backbone {name!r} is a folder; write local-dir:{name} to load it")
    architecture, _, tag = name.partition(".")
    _check_architecture(architecture)
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ValueError(
            f"backbone {name!r} has no weights tagged {tag!r}; {architecture} has: {', '.join(tags) or '-'}"
        )
    return BackboneSource(name, architecture)


def _resolve_folder(name: str, folder: Path) -> BackboneSource:
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; give a folder saved by timm or by the export command")
    config = json.loads(config_file.read_text())
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise ValueError(
            f"{config_file} names no timm architecture; give a folder saved by timm or by the export command"
        )
    _check_architecture(architecture)
    candidates = [folder / "model.safetensors", folder / "pytorch_model.bin"]
    candidates += [
        file for suffix in ("safetensors", "pth", "pt", "bin") for file in sorted(folder.glob(f"*.{suffix}"))
    ]
    weights = next((file for file in candidates if file.is_file()), None)
    return BackboneSource(name, architecture, dict(config.get("model_args") or {}), weights)


def _check_architecture(architecture: str) -> None:
    if timm.is_model(architecture):
        return
    near = nearest_models(architecture)
    hint = f"nearest names: {', '.join(near)}" if near else "see timm.list_models() for the names"
    raise ValueError(f"unknown model {architecture!r}; {hint}")
