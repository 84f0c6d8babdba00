"""One training run, from start to finish: what `srt-distill fit` does, as a function.

Shape legend: none.
"""

import signal
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from srt_distill.data import UnlabeledImages
from srt_distill.files import write_file
from srt_distill.loggers import opened_loggers
from srt_distill.runs import CONFIG_FILE, headline, is_score, record_scores
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.run_folder import BEST_CHECKPOINT, choose_checkpoint, keep_aside, last_checkpoint, locked
from srt_distill.training.run_trainer import in_words, make_trainer, quiet_lightning
from srt_distill.training.stopping import RunCheckpoints, Stopped, StopRequests


@dataclass(frozen=True)
class FitResult:
    """What came of a run.

    Attributes:
        folder: Of the run.
        steps: Optimiser steps taken, over all resumes.
        scores: Held-out scores and those of tasks, of the final weights; empty where nothing was held out.
        stopped_by: The signal that ended it, if one did; it has saved where it was.
        num_unreadable: Images that could not be read.
        dry: Whether it was a dry run (`fast_dev_run`), which leaves nothing.
        layers: Specs of the layers that were distilled.
        loggers: What it was logged to.
    """

    folder: Path
    steps: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    stopped_by: signal.Signals | None = None
    num_unreadable: int = 0
    dry: bool = False
    layers: tuple[int | str, ...] = ()
    loggers: tuple[Logger, ...] = ()


def fit(
    model: SRTDistillation,
    data: pl.LightningDataModule,
    folder: str | Path,
    *,
    resume: str | None = None,
    checkpoint_every: int = 100,
    patience: int | None = None,
    config: str | None = None,
    **trainer: Any,
) -> FitResult:
    """Train a student, and leave a run folder with its checkpoints, log and config.

    Args:
        model: The distillation.
        data: Unlabeled images in crops with a margin of `model.reading.srt.margin`.
        folder: Of the run. A second run in it is refused.
        resume: None to start; `last` to go on with the run in the folder; `auto` to go on if there is one; or a file.
        checkpoint_every: Steps between checkpoints that a killed run resumes from; 0 for the end only.
        patience: Validations without a higher `val/gap_closed` (`val/relations_closed`, where these are taught) after
            which training stops; None never.
        config: YAML to write into the folder as config.yaml, once the run is accepted.
        **trainer: Arguments of Lightning's Trainer; `logger` may be a `LoggerName` too, or several.

    Returns:
        What came of it. A run that was told to stop has saved where it was, and says by which signal.

    Raises:
        ValueError: If settings contradict each other, the folder, or the run that is resumed.
        RuntimeError: If another run is training in the folder, or this one diverged.
    """
    folder = Path(folder)
    if checkpoint_every < 0:
        raise ValueError(f"checkpoint_every {checkpoint_every} is negative; use 0 to save at the end only, or steps")
    require_fitting_crops(model, data)
    requests = StopRequests()
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(in_words(trainer))
        result = FitResult(folder, dry=bool(trainer.get("fast_dev_run")), layers=model.reading.layers)
        if result.dry:
            folder, config = Path(stack.enter_context(tempfile.TemporaryDirectory())), None
        start = None if result.dry else choose_checkpoint(folder, resume)
        if not result.dry and rank_zero_only.rank == 0:
            stack.enter_context(locked(folder))
        stack.enter_context(requests.listening())
        checkpoints = RunCheckpoints(folder, checkpoint_every, requests)
        loggers = stack.enter_context(opened_loggers(False if result.dry else trainer.get("logger"), folder))
        settings = {**trainer, "logger": loggers}
        made = make_trainer(settings, folder, checkpoints, patience, model.held_out.headline)
        result = replace(result, loggers=tuple(made.loggers))
        try:
            made.callbacks.append(_Acceptance(folder, config))  # type: ignore[attr-defined]
            made.fit(model, datamodule=data, ckpt_path=start, weights_only=True)
            requests.in_step = False
            scores = {} if result.dry else _finish(made, model, data, checkpoints)
            result = replace(result, steps=made.global_step, scores=scores)
        except FloatingPointError as error:
            raise RuntimeError(checkpoints.explain_divergence(made, str(error))) from error
        except Stopped as stopped:
            result = replace(result, steps=checkpoints.saved_at or 0, stopped_by=stopped.by)
    return replace(result, num_unreadable=getattr(data, "num_unreadable", 0))


def _finish(
    trainer: pl.Trainer, model: SRTDistillation, data: pl.LightningDataModule, checkpoints: RunCheckpoints
) -> dict[str, float]:
    """Save the last step, measure the final weights if they are not measured yet, and note the scores."""
    last = last_checkpoint(checkpoints.folder)
    if checkpoints.saved_at != trainer.global_step:
        checkpoints.save(trainer)
    logged = dict(trainer.callback_metrics)
    if checkpoints.validated_at != trainer.global_step:
        trainer.validate(model, datamodule=data, verbose=False)
        logged |= trainer.callback_metrics
    scores = {name: value.item() for name, value in logged.items() if is_score(name)}
    if trainer.is_global_zero and scores:
        record_scores(last, scores)
        best = last.with_name(BEST_CHECKPOINT)
        score = scores.get(headline(scores))
        if score is not None and (checkpoints.is_best(score) or not best.exists()):
            keep_aside(last, best)
    trainer.strategy.barrier()
    return scores


class _Acceptance(pl.Callback):
    """Writes the config once nothing refuses the run any more."""

    def __init__(self, folder: Path, config: str | None) -> None:
        self.folder, self.config = folder, config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.config is not None:
            write_file(self.folder / CONFIG_FILE, self.config)


def require_fitting_crops(model: SRTDistillation, data: pl.LightningDataModule) -> None:
    """Prove that crops have the backbone's channels, the margin that shifts need, and tile the backbone's patches.

    Raises:
        ValueError: If they do not.
    """
    if not isinstance(data, UnlabeledImages):
        return
    if data.source.num_channels != model.num_channels:
        raise ValueError(
            f"{model.backbone.name} takes images of {model.num_channels} channels, {type(data.source).__name__} gives "
            f"{data.source.num_channels}; set data.source.num_channels={model.num_channels} (of ImageFolder and "
            "FileList), or give a backbone for these images"
        )
    margin, needed = (data.window[0] - data.crop_size[0]) // 2, model.reading.srt.margin
    if margin != needed:
        raise ValueError(
            f"data margin {margin} is not the {needed} real pixels round a crop that shifts of radius "
            f"{model.reading.srt.radius} (model.srt.radius) look at; make the data with margin={needed}"
        )
    for name, side in zip(("height", "width"), data.crop_size, strict=True):
        if side % model.patch_size:
            raise ValueError(
                f"crop {name} {side} is not a multiple of patch side {model.patch_size} of {model.backbone.name}; set "
                f"data.crop_size to multiples, and patch={model.patch_size} where the data is made"
            )
