"""The choices that distill_ablation.py compares, and how a student is trained under one.

Shape legend: none, tensors stay inside the library.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

from srt_distill.backbone import TrainablePart, load_backbone, plain_state
from srt_distill.data import DavisFrames, FileList, ImageSource, Mixture, UnlabeledImages
from srt_distill.ensemble.baselines import Interpolation
from srt_distill.ensemble.shifts import Border, Subset
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.losses import Loss

FRAMES_PER_PHOTO = 3  # of a mixture


@dataclass(frozen=True)
class Choice:
    """How to distil. The defaults are the row that all others are compared with.

    Attributes:
        loss: Distance to the target.
        shifts_per_step: Sampled shifts a step; None for a fixed target of `shift_subset`.
        shift_subset: The shifts of a fixed target.
        layers: Features that are distilled; None for those that are scored.
        unit_tokens: Compare tokens of length 1.
        interpolation: How a teacher's token fills its pixels.
        trainable: Which weights move.
        last_n: Number of last blocks that move under `last_n`.
        shift_radius: In pixels.
        margin: Real pixels round a crop.
        border: What lies beyond them.
        lr: Peak learning rate.
        layer_decay: Factor on it from each block to the one before.
        penalty_weight: Of the pull towards w0 (L2-SP).
        teacher_decay: Let the teacher follow the student, as an average that keeps this share a step.
        times_steps: Factor on the steps.
        times_crop: Factor on the crop's sides, and divisor of the images a step.
        scale: Of the training frames; None for the scale that is scored at.
        photos: Mix in two thirds of the photographs; the head is judged on the last third, another for every seed.
        share: Go only this share of the way from w0 to the student's weights (after WiSE-FT; Wortsman et al., CVPR
            2022, Eq. 1).
    """

    loss: Loss = "mse"
    shifts_per_step: int | None = 4
    shift_subset: Subset = "full"
    layers: tuple[int | str, ...] | None = None
    unit_tokens: bool = False
    interpolation: Literal["nearest"] | Interpolation = "nearest"
    trainable: TrainablePart = "all"
    last_n: int = 1
    shift_radius: int = 3
    margin: int = 3
    border: Border = "edge"
    lr: float = 1e-4
    layer_decay: float | None = None
    penalty_weight: float = 0.0
    teacher_decay: float | None = None
    times_steps: int = 1
    times_crop: int = 1
    scale: float | None = None
    photos: bool = False
    share: float = 1.0

    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, as plain data."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def unseen(self, num_photos: int, seed: int) -> range:
        """Numbers of the photographs that a seed's student was not trained on."""
        return range(seed % 3, num_photos, 3) if self.photos else range(num_photos)


DEFAULT = Choice()
FACTORS: dict[str, dict[str, Choice]] = {
    "default": {"mse on the last block, all weights, lr 1e-4": DEFAULT},
    "loss": {
        f"{loss}, fixed grid9": Choice(loss=loss, shifts_per_step=None, shift_subset="grid9")
        for loss in ("mse", "l2", "l1", "smooth_l1", "cosine")
    },
    "target": {
        **{f"{k} sampled shifts": Choice(shifts_per_step=k) for k in (1, 9)},
        **{f"radius {d}": Choice(shift_radius=d, margin=d) for d in (1, 5, 7)},
        "tokens of length 1": Choice(unit_tokens=True),
        "bilinear features": Choice(interpolation="bilinear"),
        "blocks 5, 8 and 11": Choice(layers=(5, 8, 11)),
        "class token too": Choice(layers=(-1, "-1:prefix")),
        "teacher follows, 0.99 a step": Choice(teacher_decay=0.99),
    },
    "trainable": {
        "last block": Choice(trainable="last_n"),
        "last block, lr 3e-4": Choice(trainable="last_n", lr=3e-4),
        "last 3 blocks": Choice(trainable="last_n", last_n=3),
        "norms": Choice(trainable="norm"),
        "norms, lr 1e-3": Choice(trainable="norm", lr=1e-3),
        "biases": Choice(trainable="bias"),
        "biases, lr 1e-3": Choice(trainable="bias", lr=1e-3),
        "LoRA": Choice(trainable="lora"),
        "LoRA, lr 1e-3": Choice(trainable="lora", lr=1e-3),
    },
    "crops": {
        "no margin, edges repeated": Choice(margin=0),
        "no margin, zeros": Choice(margin=0, border="zeros"),
        "twice the side, half of the images": Choice(times_crop=2),
        "full-size frames": Choice(scale=1.0),
    },
    "length": {
        "lr 3e-5": Choice(lr=3e-5),
        "lr 3e-4": Choice(lr=3e-4),
        "twice the steps": Choice(times_steps=2),
        "lr 3e-5, 4 times the steps": Choice(lr=3e-5, times_steps=4),
    },
    "harm": {
        "pull to w0, 0.01": Choice(penalty_weight=0.01),
        "pull to w0, 0.1": Choice(penalty_weight=0.1),
        "layer decay 0.8": Choice(layer_decay=0.8),
        "half of the way from w0": Choice(share=0.5),
        "photographs mixed in": Choice(photos=True),
        "photographs and class token": Choice(photos=True, layers=(-1, "-1:prefix")),
    },
    "together": {
        "last block, radius 5": Choice(trainable="last_n", shift_radius=5, margin=5),
        "last block, radius 7": Choice(trainable="last_n", shift_radius=7, margin=7),
        "last block, radius 7, lr 3e-4": Choice(trainable="last_n", lr=3e-4, shift_radius=7, margin=7),
        "last 3 blocks, radius 7": Choice(trainable="last_n", last_n=3, shift_radius=7, margin=7),
        "last 3 blocks, radius 7, class token too": Choice(
            trainable="last_n", last_n=3, shift_radius=7, margin=7, layers=(-1, "-1:prefix")
        ),
        "last 3 blocks, radius 5": Choice(trainable="last_n", last_n=3, shift_radius=5, margin=5),
    },
}


MODEL_SETTINGS = (
    *("loss", "shifts_per_step", "shift_subset", "unit_tokens", "trainable", "shift_radius", "margin", "border"),
    *("interpolation", "last_n", "layer_decay", "penalty_weight"),
)
"""Attributes of a choice that are arguments of SRTDistillation as they stand."""


class FollowingTeacher(pl.Callback):
    """Moves the teacher after the student: an exponential average of weights, in place of rounds.

    Args:
        decay: Share of the teacher's weights that a step keeps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """One step of the average."""
        if isinstance(pl_module, SRTDistillation):
            pairs = zip(pl_module.teacher.parameters(), pl_module.student.parameters(), strict=True)
            for theirs, ours in pairs:
                theirs.lerp_(ours, 1 - self.decay)


def make_module(choice: Choice, backbone: str, weights: str | None, layer: int, seed: int) -> SRTDistillation:
    """The module that distils a backbone's layer, or the choice's own layers, under a choice."""
    following = choice.teacher_decay is not None  # then what is measured from w0 needs w0 apart from the teacher
    return SRTDistillation(
        backbone,
        weights=weights,
        origin=backbone if following else None,
        origin_weights=weights if following else None,
        layers=list(choice.layers or [layer]),
        views_per_batch="auto",
        optimizer=partial(torch.optim.AdamW, lr=choice.lr, weight_decay=0.0),
        seed=seed,
        **{name: getattr(choice, name) for name in MODEL_SETTINGS},
    )


def mix(frames: ImageSource, photos: Sequence[Path]) -> Mixture:
    """Photographs among up to three times as many frames."""
    with TemporaryDirectory() as folder:
        listing = Path(folder) / "photos.txt"
        listing.write_text("\n".join(str(photo.resolve()) for photo in photos))
        source = FileList(listing)
    return Mixture([frames, source], [min(FRAMES_PER_PHOTO * len(photos), len(frames)), None])


def distil(
    choice: Choice,
    seed: int,
    *,
    backbone: str,
    weights: str | None,
    layer: int,
    patch: int,
    frames: DavisFrames,
    photos: Sequence[Path],
    crop: tuple[int, int],
    scale: float,
    batch: int,
    steps: int,
    held_out: int,
    accelerator: str,
) -> tuple[nn.Module, dict[str, float]]:
    """Train one student.

    Args:
        choice: How.
        seed: Of crops and shifts.
        backbone: timm model name or folder.
        weights: Weights file of a timm name.
        layer: Block whose features are distilled, where the choice names none.
        patch: Patch side in pixels.
        frames: Unlabeled target domain.
        photos: All photographs, for a choice that mixes some in.
        crop: Height and width in pixels, before the choice's factor.
        scale: Resize factor of frames, where the choice names none.
        batch: Images a step, before the choice's factor.
        steps: Before the choice's factor.
        held_out: Images that are kept out to measure on.
        accelerator: Of the trainer.

    Returns:
        A plain timm model in eval mode, and what the run measured on held-out images.
    """
    pl.seed_everything(seed, verbose=False)
    unseen = choice.unseen(len(photos), seed)
    mixed = mix(frames, [photo for i, photo in enumerate(photos) if i not in unseen]) if choice.photos else frames
    data = UnlabeledImages(
        mixed,
        crop_size=(crop[0] * choice.times_crop, crop[1] * choice.times_crop),
        margin=choice.margin,
        scale=scale if choice.scale is None else choice.scale,
        batch_size=max(1, batch // choice.times_crop),
        num_workers=0,
        held_out=held_out,
        patch=patch,
        seed=seed,
    )
    module = make_module(choice, backbone, weights, layer, seed)
    steps *= choice.times_steps
    trainer = pl.Trainer(
        max_steps=steps,
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accelerator=accelerator,
        devices=1,
        logger=False,
        callbacks=[] if choice.teacher_decay is None else [FollowingTeacher(choice.teacher_decay)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)

    student = load_backbone(backbone, weights=weights).eval()
    with torch.no_grad():
        start, end = student.state_dict(), plain_state(module.student.cpu())
        student.load_state_dict({name: torch.lerp(start[name], end[name], choice.share) for name in start})
    return student, {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
