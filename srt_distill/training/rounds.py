"""Rounds: runs in a row, each with the student of the one before as its frozen teacher.

Shape legend: none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from srt_distill.backbone.options import BackboneOptions
from srt_distill.files import require_writable, write_file
from srt_distill.runs import (
    CONFIG_FILE,
    STUDENT_FOLDER,
    count_finished_rounds,
    round_folder,
    save_student,
)
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.fit import FitResult, fit
from srt_distill.training.run_folder import last_checkpoint, locked
from srt_distill.training.targets import CachedShifts


@dataclass(frozen=True)
class RunParts:
    """What one run is put together from; a round needs its own.

    Attributes:
        model: The distillation.
        data: Unlabeled images.
        trainer: Arguments of Lightning's Trainer.
        config: YAML of the run, to be written into its folder.
    """

    model: SRTDistillation
    data: pl.LightningDataModule
    trainer: dict[str, Any] = field(default_factory=dict)
    config: str | None = None


MakeRun = Callable[[BackboneOptions, BackboneOptions | None, Path], RunParts]
"""A round's teacher, the first round's where this is a later one, and the round's folder, to the parts of its run."""


def distill_rounds(
    make_run: MakeRun,
    backbone: BackboneOptions,
    folder: str | Path,
    rounds: int,
    *,
    resume: str | None = None,
    checkpoint_every: int = 100,
    patience: int | None = None,
    config: str | None = None,
) -> FitResult:
    """Train round after round, each what a run of its own would be from the student of the one before.

    Args:
        make_run: Makes the parts of a round.
        backbone: The first round's teacher.
        folder: Gets a run folder `round-<n>` per round, each with its student as a timm folder.
        rounds: How many there are in the end.
        resume: None to start, `last` to go on, `auto` to go on if there is something to go on with.
        checkpoint_every: See `srt_distill.training.fit.fit`.
        patience: See there.
        config: YAML to write into the folder, once the first round is begun.

    Returns:
        What came of the last round that was trained.

    Raises:
        ValueError: If the folder does not go with that, or a round's target is a cache.
        RuntimeError: If another run is training in the folder, or a round diverged.
    """
    folder = Path(folder)
    finished = check_rounds(folder, rounds, resume)
    result = FitResult(folder)
    for number in range(finished + 1, rounds + 1):
        place = round_folder(folder, number)
        teacher = BackboneOptions(f"local-dir:{round_folder(folder, number - 1) / STUDENT_FOLDER}")
        first = number == 1
        parts = make_run(backbone if first else teacher, None if first else backbone, place)
        if isinstance(parts.model.target, CachedShifts):
            raise ValueError(
                f"rounds {rounds} with target CachedShifts({parts.model.target.folder}): it holds the targets of the "
                "first round's teacher, and each round has another; use another target, or run and cache round by round"
            )
        if rank_zero_only.rank == 0:
            require_writable(folder)
            if config is not None:
                write_file(folder / CONFIG_FILE, config)
            print(f"\nRound {number} of {rounds}")
        result = fit(
            parts.model,
            parts.data,
            place,
            resume="last" if last_checkpoint(place).exists() else None,
            checkpoint_every=checkpoint_every,
            patience=patience,
            config=parts.config,
            **parts.trainer,
        )
        if result.stopped_by is not None or result.dry:
            break
        if rank_zero_only.rank == 0:
            with locked(place):
                save_student(place)
        parts.model.trainer.strategy.barrier()
    return result


def check_rounds(folder: Path, rounds: int, resume: str | None) -> int:
    """Refuse what does not go with several rounds, or not with what there is of them.

    Returns:
        How many rounds are finished.

    Raises:
        ValueError: If there is anything to refuse.
    """
    if rounds < 1:
        raise ValueError(f"rounds {rounds} is not a positive number; use 1 or more")
    if resume not in (None, "last", "auto"):
        raise ValueError(f"rounds {rounds} with resume {resume}: rounds are resumed with --resume last or auto only")
    if last_checkpoint(folder).exists():
        raise ValueError(f"{folder} holds a run without rounds; name another folder with --trainer.default_root_dir")
    finished = count_finished_rounds(folder)
    begun = finished > 0 or last_checkpoint(round_folder(folder, 1)).exists()
    if begun and resume is None:
        raise ValueError(
            f"{folder} already holds rounds; continue with --resume last, or name another folder with "
            "--trainer.default_root_dir"
        )
    if resume == "last" and not begun:
        raise ValueError(f"{folder} holds no rounds to resume; leave --resume out to start them")
    if finished >= rounds:
        raise ValueError(f"all {rounds} rounds in {folder} are finished; give a larger --rounds to go on from there")
    return finished
