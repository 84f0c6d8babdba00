"""Where numbers and pictures of a run go: TensorBoard, CSV, Weights & Biases, MLflow, each by one word.

Shape legend: H W pixels.

What else there is to set comes from where users of these programs set it: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and so on.
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from jaxtyping import UInt8
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
"""csv: numbers in metrics.csv, pictures as PNG files beside it."""

CLASS_NAMES: Mapping[str, LoggerName] = {
    "TensorBoardLogger": "tensorboard",
    "CSVLogger": "csv",
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
}
"""What Lightning calls them."""

LOG_FOLDER = "tensorboard"
"""In a run folder, where TensorBoard's log lies."""

PROJECT = "srt-distill"
"""Project of W&B and experiment of MLflow where none is set."""


def make_logger(name: str, folder: Path, title: str | None = None) -> Logger:
    """Make a logger.

    Args:
        name: A `LoggerName`.
        folder: TensorBoard, CSV and W&B keep their files in it, MLflow where it was told to.
        title: Name of the run; the last two parts of the folder's path by default. For CSV a folder in the folder.

    Raises:
        ValueError: If there is none of this name.
        ModuleNotFoundError: If its package is not installed.
    """
    called = title or "/".join(folder.absolute().parts[-2:])
    if name == "tensorboard":
        return TensorBoardLogger(folder, name=LOG_FOLDER, version="", default_hp_metric=False)
    if name == "csv":
        return CSVLogger(folder, name="/".join(filter(None, ("csv", title))), flush_logs_every_n_steps=1)
    if name == "wandb":
        _import(name)
        folder.mkdir(parents=True, exist_ok=True)
        return WandbLogger(called, save_dir=folder, project=os.environ.get("WANDB_PROJECT", PROJECT))
    if name == "mlflow":
        store = _import(name).get_tracking_uri()
        return MLFlowLogger(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), called, tracking_uri=store)
    raise ValueError(f"logger {name!r} is none of {', '.join(get_args(LoggerName))}")


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"logger {package} needs the package {package}; pip install {package}") from error


@contextmanager
def opened_loggers(given: Any, folder: Path, title: str | None = None) -> Iterator[Any]:
    """Make the loggers that are named, and close them in the end, so that the next run has one of its own.

    Args:
        given: What `Trainer` takes as `logger`, or a name, or several; TensorBoard for None and True.
        folder: Of the run.
        title: Of those that are named; see `make_logger`.

    Yields:
        What `Trainer` takes.
    """
    if given in (None, True):
        given = "tensorboard"
    several = given if isinstance(given, list | tuple) else [given]
    names = [item for item in several if isinstance(item, str)]
    made = [make_logger(item, folder, title) if isinstance(item, str) else item for item in several]
    try:
        yield made if names else given
    finally:
        if "wandb" in names:
            _import("wandb").finish()


@rank_zero_only
def log_picture(logger: Logger, name: str, picture: UInt8[Tensor, "3 H W"], step: int) -> None:
    """Hand a picture to a logger, in the way that it takes one; to one that takes none, nothing.

    Args:
        logger: Lightning's.
        name: What the picture shows.
        picture: In bytes.
        step: Of the run.
    """
    if isinstance(logger, CSVLogger):
        place = Path(logger.log_dir) / "pictures" / f"step-{step:06}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        _as_image(picture).save(place)
        return
    experiment: Any = getattr(logger, "experiment", None)
    log_image, run_id = getattr(logger, "log_image", None), getattr(logger, "run_id", None)
    if log_image is not None:  # W&B, and others that took over its ways
        log_image(key=name, images=[_as_image(picture)], step=step)
    elif hasattr(experiment, "add_image"):
        experiment.add_image(name, picture, step)
    elif hasattr(experiment, "log_image") and run_id is not None:  # MLflow
        key = re.sub(r"[^\w\-./ ]+", "-", name)
        experiment.log_image(run_id, _as_image(picture), key=key, step=step)


@rank_zero_only
def log_files(logger: Logger, paths: Sequence[Path]) -> None:
    """Hand files to a logger that keeps them: W&B or MLflow.

    Args:
        logger: Lightning's.
        paths: The files; W&B shows pages of HTML, MLflow anything that a browser does.
    """
    if isinstance(logger, WandbLogger):
        for path in paths:
            if path.suffix == ".html":
                logger.experiment.log({path.stem: _import("wandb").Html(path.read_text())})
            else:
                logger.experiment.save(str(path), base_path=str(path.parent), policy="now")
    elif isinstance(logger, MLFlowLogger):
        for path in paths:
            logger.experiment.log_artifact(logger.run_id, str(path))


def _as_image(picture: UInt8[Tensor, "3 H W"]) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())


def how_to_look(logger: Logger, folder: Path) -> str | None:
    """Say what shows a log: a command, an address or a file; None of loggers that are not known.

    Args:
        logger: Lightning's, after a run.
        folder: Of the run; of several rounds, the one that holds them.
    """
    if isinstance(logger, TensorBoardLogger):
        return f"tensorboard --logdir {folder if folder in Path(logger.save_dir).parents else logger.save_dir}"
    if isinstance(logger, CSVLogger):
        return str(Path(logger.log_dir) / "metrics.csv")
    if isinstance(logger, WandbLogger):
        run = logger.experiment
        return f"wandb sync {Path(run.dir).parent}" if run.offline else run.url
    if isinstance(logger, MLFlowLogger):
        store = logger.experiment.tracking_uri
        if store.startswith("http"):
            return f"{store}/#/experiments/{logger.experiment_id}/runs/{logger.run_id}"
        return f"mlflow ui --backend-store-uri {store}"
    return None
