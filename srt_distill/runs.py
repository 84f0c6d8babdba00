"""A training run on disk, of one round or several: where its checkpoint lies, and the student and teacher in it.

Shape legend: none, models are only loaded here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from torch import Tensor, nn

from srt_distill.backbone import (
    add_adapters,
    build_backbone,
    load_backbone,
    plain_state,
    read_torch_file,
    require_finite,
    save_backbone,
    set_normalization,
)
from srt_distill.backbone.layers import parse_layer
from srt_distill.backbone.options import BackboneOptions
from srt_distill.ensemble.baselines import InterpolatedFeatures, PyramidFeatures
from srt_distill.extractor import Extractor
from srt_distill.files import TIMM_FOLDER, replaced_file, replaced_folder

CHECKPOINT_FOLDER = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"
CONFIG_FILE = "config.yaml"
STUDENT_FOLDER = "student"
PARITY_FILE = "parity.json"
"""What an export says of itself."""

GAP_CLOSED, RELATIONS_CLOSED = "val/gap_closed", "val/relations_closed"
"""Held-out scores: of values, and of relations between tokens where these are taught."""

Readout = Literal["none", "bilinear", "pyramid"]
"""How a student's maps are read where they are judged; run and export say which it is. No readout costs a pass.

none: as they are.
bilinear: smoothed by bilinear interpolation (`srt_distill.ensemble.baselines.InterpolatedFeatures`).
pyramid: each token beside the mean of its neighbourhood, twice the channels (`…baselines.PyramidFeatures`).

The loss sees the maps smoothed, or smoothed in part, under both of the latter.
"""

OTHER_TRAININGS = "Weights of other trainings are given as a file of weights beside the name of a backbone"
MUST_HOLD = ("state_dict", "hyper_parameters", "backbone", "scores", "global_step")


@dataclass(frozen=True)
class Run:
    """What a checkpoint of `SRTDistillation` holds.

    Attributes:
        path: The .ckpt file.
        student: The adapted model, a plain timm model in eval mode; adapters are merged into its weights.
        teacher: The frozen original.
        settings: Arguments of `SRTDistillation`, options as dictionaries: `settings["srt"]["radius"]`.
        data_settings: Arguments of the data module, from the run folder's config; empty for a checkpoint that left it.
        scores: Held-out scores when the checkpoint was written.
        step: Optimiser steps taken.
    """

    path: Path
    student: nn.Module
    teacher: nn.Module
    settings: dict[str, Any]
    data_settings: dict[str, Any]
    scores: dict[str, float]
    step: int


def find_checkpoint(path: str | Path) -> Path:
    """Find the checkpoint meant by a run folder or .ckpt file; of several rounds, that of the last finished one.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for candidate in (path / CHECKPOINT_FOLDER / LAST_CHECKPOINT, path / LAST_CHECKPOINT):
        if candidate.is_file():
            return candidate
    if finished := count_finished_rounds(path):
        return find_checkpoint(round_folder(path, finished))
    if round_folder(path, 1).is_dir():
        raise FileNotFoundError(
            f"no round in {path} is finished; go on with srt-distill fit … --resume last, or give "
            f"{round_folder(path, 1)} for what there is"
        )
    raise FileNotFoundError(
        f"{path} is neither a checkpoint nor a run folder with {CHECKPOINT_FOLDER}/{LAST_CHECKPOINT}; "
        "give the folder that `srt-distill fit` wrote (its trainer.default_root_dir) or a .ckpt file"
    )


def run_folder(checkpoint: Path) -> Path:
    """Return the run folder that a checkpoint belongs to, or the checkpoint itself where it lies alone."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINT_FOLDER else checkpoint


def round_folder(root: Path, number: int) -> Path:
    """Return the run folder of a round, counted from 1."""
    return root / f"round-{number}"


def count_finished_rounds(root: Path) -> int:
    """How many rounds are finished: each leaves its student, the next round's teacher, as its last act."""
    number = 0
    while (round_folder(root, number + 1) / STUDENT_FOLDER).is_dir():
        number += 1
    return number


def save_student(root: Path) -> Path:
    """Write the student of a run folder as a timm folder within it, whole or not at all, and return that."""
    run = load_run(root)
    with replaced_folder(root / STUDENT_FOLDER, TIMM_FOLDER) as folder:
        save_backbone(run.student, folder)
    return root / STUDENT_FOLDER


def record_scores(path: Path, scores: Mapping[str, float]) -> None:
    """Bring a checkpoint's held-out scores up to date, and leave all else in it as it is.

    Args:
        path: The .ckpt file.
        scores: What was logged; what `is_score` does not take for a score is passed over.
    """
    checkpoint = read_checkpoint(path)
    checkpoint["scores"] |= {name: value for name, value in scores.items() if is_score(name)}
    with replaced_file(path) as temporary:
        torch.save(checkpoint, temporary)


def headline(scores: Mapping[str, Any]) -> str:
    """Name the score that tells whether a student is better: of relations, where they were taught, else of values."""
    return RELATIONS_CLOSED if RELATIONS_CLOSED in scores else GAP_CLOSED


def is_score(name: str) -> bool:
    """Tell what was measured of a student, `val/gap_closed` or a task's score, from what was logged of its training."""
    return "/" in name and not name.startswith("train/")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of `SRTDistillation`, without running any code from it, and prove that it is whole.

    Args:
        path: The .ckpt file.

    Returns:
        What it holds, `MUST_HOLD` and more, on the CPU.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is empty, damaged, of another program, or needs more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give a .ckpt file of srt-distill fit")
    try:
        checkpoint = read_torch_file(path)
    except ValueError as error:
        others = ", ".join(sorted(str(file) for file in path.parent.glob("*.ckpt") if file != path)) or "none"
        raise ValueError(
            f"{path} cannot be read as a checkpoint: {error}\nOther checkpoints beside it: {others}. {OTHER_TRAININGS}"
        ) from error
    missing = [key for key in MUST_HOLD if not isinstance(checkpoint, Mapping) or key not in checkpoint]
    if missing:
        raise ValueError(
            f"{path} is no checkpoint of srt-distill fit: it holds no {missing[0]!r}; give a .ckpt that it wrote. "
            f"{OTHER_TRAININGS}"
        )
    return dict(checkpoint)


def load_run(path: str | Path) -> Run:
    """Load student and teacher from a run folder or checkpoint, with neither hub nor original weights file.

    Args:
        path: A run folder or a .ckpt file.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged or none of `SRTDistillation`, or weights in it are missing or no numbers.
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    try:
        run = Run(
            path=path,
            student=_role(checkpoint, "student"),
            teacher=_role(checkpoint, "teacher"),
            settings=dict(checkpoint["hyper_parameters"]),
            data_settings=_data_settings(path.parent.parent / CONFIG_FILE),
            scores=dict(checkpoint["scores"]),
            step=checkpoint["global_step"],
        )
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} is a checkpoint of another version of srt-distill ({reason}); load it with the version that wrote "
            "it, or train again"
        ) from error
    for role in ("student", "teacher"):
        require_finite(getattr(run, role).state_dict(), f"the {role} in {path}")
    return run


def _data_settings(config: Path) -> dict[str, Any]:
    """Read the data settings beside a checkpoint, of a run folder that has them."""
    try:
        content = yaml.safe_load(config.read_text()) if config.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):  # somebody else's file of that name
        content = None
    settings = content.get("data") if isinstance(content, Mapping) else None
    return dict(settings) if isinstance(settings, Mapping) else {}


def _role(checkpoint: dict[str, Any], role: str) -> nn.Module:
    prefix = f"{role}."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    trainable = checkpoint["hyper_parameters"]["trainable"]
    if role == "student" and trainable["part"] == "lora":
        adapted = build_backbone(checkpoint["backbone"])
        add_adapters(adapted, trainable["lora_rank"], trainable["lora_alpha"])
        adapted.load_state_dict(weights)
        weights = {key: value.detach() for key, value in plain_state(adapted).items()}
    model = build_backbone(checkpoint["backbone"])
    model.load_state_dict(weights)
    return model.eval()


def declared_readout(name: str | Path) -> Readout:
    """Tell how a student is read where it is judged, as its run or export says; `none` of any other backbone.

    Args:
        name: A run folder, a .ckpt file, an exported folder, or any other name of a backbone.

    Raises:
        ValueError: If it names a readout that is not known here, or a checkpoint is damaged.
        FileNotFoundError: If a folder is neither a run nor an export.
    """
    path = Path(str(name).removeprefix("local-dir:"))
    if (path / PARITY_FILE).is_file():
        record = json.loads((path / PARITY_FILE).read_text())
        readout = record.get("readout", "none") if isinstance(record, Mapping) else "none"
    elif path.exists() and not (path / "config.json").is_file():
        path = find_checkpoint(path)
        readout = read_checkpoint(path)["hyper_parameters"].get("readout", "none")
    else:
        return "none"
    if readout not in get_args(Readout):
        raise ValueError(
            f"{path} is to be read through {readout!r}, known are {', '.join(get_args(Readout))}; judge it with the "
            "version of srt-distill that wrote it"
        )
    return readout


@dataclass(frozen=True)
class ThroughReadout:
    """Features read through a readout, which maps of tokens go through and prefix tokens do not.

    Attributes:
        extract: What gives the maps.
        layers: Specs of its layers.
        readout: How they are read.
        strength: How much of bilinear smoothing there is.
    """

    extract: Extractor
    layers: tuple[int | str, ...]
    readout: Literal["bilinear", "pyramid"]
    strength: float = 1.0

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (B, C, h, w), one per layer."""
        maps: list[Tensor] = []

        def keep(images: Tensor) -> tuple[Tensor, ...]:
            maps.extend(self.extract(images))
            return tuple(maps[index] for index in dense)

        dense = [index for index, spec in enumerate(self.layers) if parse_layer(spec).facet != "prefix"]
        pyramid, smooth = PyramidFeatures(keep), InterpolatedFeatures(keep, "bilinear", self.strength)
        read = pyramid(images) if self.readout == "pyramid" else smooth(images)
        for index, features in zip(dense, read, strict=True):
            maps[index] = features
        return tuple(maps)


def open_backbone(options: BackboneOptions) -> nn.Module:
    """Load any backbone a user may name: a run stands for its student, an exported folder for itself.

    Args:
        options: Name, weights file, resizing of position embeddings, mean and std.

    Raises:
        ValueError: If the name or the weights fit nothing; see `srt_distill.backbone.load_backbone`.
        FileNotFoundError: If a folder is neither a run nor an export.
    """
    name, path = options.name, Path(options.name)
    if path.exists() and not (path / "config.json").is_file():
        model = load_run(path).student
    else:
        name = f"local-dir:{path}" if path.is_dir() else name
        model = load_backbone(name, weights=options.weights, position_embedding=options.position_embedding)
    return set_normalization(model, options.mean, options.std)
