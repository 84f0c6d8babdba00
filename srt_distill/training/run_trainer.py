"""The trainer of a run: Lightning's, with a folder of its own, what a run shows, and without its advertisements.

Shape legend: none.
"""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ProgressBar

from srt_distill.training.callbacks import FeaturePanels, Throughput
from srt_distill.training.progress import RunProgress
from srt_distill.training.run_folder import AtomicCheckpointIO
from srt_distill.training.stopping import RunCheckpoints

TRAINER_OPTIONS = tuple(inspect.signature(pl.Trainer.__init__).parameters)[1:]

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*is smaller than the logging interval.*",
    ".*Found .* module.* in eval mode at the start of training.*",  # both backbones: meant so
    ".*isinstance.treespec, LeafSpec.*",
    ".*WeightAveraging callback with a model that overrides the configure_model.*",  # which makes it whole
    ".*`weights_only` was not set.*",
    ".*recommended to use .*sync_dist.*",  # the metrics add up over processes themselves
    ".*it is recommended to use .Trainer.devices=1.*",  # images that fill batches up are dropped
    ".*Grad strides do not match bucket view strides.*",  # of the class token, which is one token
    ".*MLFlow only allows .* special characters in metric name.*",
    ".*Total length of .* across ranks is zero.*",  # nothing is held out
    ".*`lr_scheduler.step.*` before .*`optimizer.step.*",  # of a resumed run whose scheduler is only made anew
)


def make_trainer(
    settings: Mapping[str, Any], folder: Path, checkpoints: RunCheckpoints, patience: int | None, score: str
) -> pl.Trainer:
    """Build a trainer for a run.

    Args:
        settings: Arguments of Lightning's Trainer; its loggers are made.
        folder: Of the run.
        checkpoints: What saves it.
        patience: Validations without a better score after which it stops; None never.
        score: The one that is to get better.

    Raises:
        ValueError: If the settings do not go together; it names the options.
    """
    settings = {**settings, "default_root_dir": folder}
    given = settings.get("callbacks") or []
    callbacks: list[Callback] = [given] if isinstance(given, Callback) else list(given)
    dry = bool(settings.get("fast_dev_run"))
    if settings.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
        callbacks.append(RunProgress())
    if patience is not None and not dry:
        callbacks.append(EarlyStopping(score, mode="max", patience=patience, check_on_train_epoch_end=False))
    settings["callbacks"] = [*callbacks, FeaturePanels(), Throughput(), checkpoints]
    plugins = settings.get("plugins") or []
    settings["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
    settings["enable_checkpointing"] = True
    settings["enable_model_summary"] = bool(settings.get("enable_model_summary"))
    return pl.Trainer(**settings)


@contextmanager
def in_words(settings: Mapping[str, Any]) -> Iterator[None]:
    """Turn what Lightning refuses into a ValueError that names the options it is about.

    Args:
        settings: Arguments of Lightning's Trainer.
    """
    try:
        yield
    except (MisconfigurationException, TypeError, AttributeError, NotImplementedError) as error:
        if not isinstance(error, MisconfigurationException) and not _is_lightnings(error):
            raise
        said = " ".join(str(error).split())
        values = {name: settings.get(name) for name in TRAINER_OPTIONS}
        named = [
            f"--trainer.{name}"
            for name, value in values.items()
            if name in said or (isinstance(value, str) and value != "auto" and value.lower() in said.lower())
        ]
        callbacks = [f"callback {type(c).__name__}" for c in settings.get("callbacks") or [] if _raised_in(error, c)]
        about = ", ".join([*named, *callbacks]) or "the options of --trainer"
        raise ValueError(f"the trainer refuses {about}: {said}") from error


def _frames(error: BaseException) -> list[str]:
    trace, names = error.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return names


def _is_lightnings(error: BaseException) -> bool:
    return "lightning" in _frames(error)[-1]


def _raised_in(error: BaseException, callback: Callback) -> bool:
    return inspect.getfile(type(callback)) in _frames(error)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements, tips and expected warnings off the terminal."""
    loggers = [logging.getLogger(f"{name}.utilities.rank_zero") for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
