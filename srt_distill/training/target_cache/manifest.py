"""What the targets of a cache were made of, and whether that is what a run wants.

Shape legend: none.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srt_distill.data.unlabeled import CropSettings
from srt_distill.files import write_file

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TargetSettings:
    """What turns a crop into its target.

    Attributes:
        teacher: SHA-256 over the teacher's weights.
        position_embedding: How position embeddings are resized.
        mean: Per channel, what crops are normalised with.
        std: Per channel.
        layers: Layers whose features are targets, as the user wrote them.
        norm: Whether the final norm is applied.
        unit_tokens: Whether tokens are brought to length 1 before they are averaged.
        precision: Of the teacher's passes, in Lightning's words.
        radius: d in pixels.
        border: What lies beyond the frame.
        subset: Which shifts are averaged.
        interpolation: How a token fills its pixels before views are averaged.
        flip: Whether mirrored views are averaged too.
        scales: To how many scales each view is resized.
        whole_patches: Whether views shifted by whole patches are averaged too.
    """

    teacher: str
    position_embedding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: tuple[int | str, ...]
    norm: bool
    unit_tokens: bool
    precision: str
    radius: int
    border: str
    subset: str
    interpolation: str
    flip: bool
    scales: int
    whole_patches: bool


SECTIONS = {
    "position_embedding": "model.backbone",
    "radius": "model.srt",
    "border": "model.srt",
    "subset": "model.srt",
    "interpolation": "model.srt",
    "flip": "model.srt",
    "scales": "model.srt",
    "whole_patches": "model.srt",
    "precision": "trainer",
}
"""Where a user finds a target setting, if not under `model`."""


def describe_settings(target: TargetSettings, crops: CropSettings | None) -> dict[str, Any]:
    """Give settings the names under which a user finds them, such as `data.views`, as plain JSON.

    Args:
        target: What turns a crop into its target.
        crops: What decides which crops there are; None where that is not known.
    """
    described = {f"{SECTIONS.get(name, 'model')}.{name}": value for name, value in asdict(target).items()}
    if crops is not None:
        described |= {f"data.{name}": value for name, value in asdict(crops).items()}
    return json.loads(json.dumps(described))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a cache.

    Raises:
        FileNotFoundError: If the folder is no cache.
        ValueError: If its manifest cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"no target cache in {folder}: {MANIFEST} is missing; make one with "
            f"srt-distill cache --config <this run's config> --output {folder}"
        )
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); delete {folder} and fill it again") from error


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a new cache."""
    write_file(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def check_settings(folder: Path, manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a cache that was made of anything else than what is wanted.

    Args:
        folder: Of the cache, for the message.
        manifest: What it was made of.
        wanted: What it must have been made of; settings not listed may be anything.

    Raises:
        ValueError: If they differ; every differing setting is named with both values.
    """
    different = list_differences(manifest, wanted, "in the cache")
    if different:
        raise ValueError(
            f"target cache {folder} does not match: {'; '.join(different)}. Set it back to the cache's value, or fill "
            "another folder: srt-distill cache --config <this run's config> --output <new folder>"
        )


def list_differences(found: dict[str, Any], wanted: dict[str, Any], where: str) -> list[str]:
    """Every setting that is not as wanted, with both values, in words.

    Args:
        found: By name.
        wanted: By name; settings not listed may be anything.
        where: What `found` is of, such as "in the cache".
    """
    return [
        f"{name} {_shorten(found.get(name, 'not recorded'))} {where}, {_shorten(value)} now"
        for name, value in wanted.items()
        if name not in found or found[name] != value
    ]


def hash_manifest(manifest: dict[str, Any]) -> str:
    """Hash a manifest (SHA-256), which binds a shard to its cache."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _shorten(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:  # a digest
        return f"{value[:12]}…"
    return value if isinstance(value, str) else json.dumps(value)
