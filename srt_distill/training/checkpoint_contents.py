"""What a checkpoint says of the run it is of, and whether a run that is resumed is still the same.

Shape legend: none.
"""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from srt_distill.training.target_cache import list_differences

if TYPE_CHECKING:
    import pytorch_lightning as pl

FREE = ("model.execution.", "model.srt.views_per_batch", "model.backbone.name", "model.backbone.weights")
"""Settings that a resumed run may change: features stay the same, and the teacher is known by its weights."""

PROGRESS = (
    "last_epoch",
    "base_lrs",
    "_step_count",
    "_last_lr",
    "_get_lr_called_within_step",
    "_is_initial",
    "lr_lambdas",
)
"""Where a schedule is, which is not what it is."""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring nested settings under the names of the command line, such as `model.srt.radius`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def describe_run(settings: Mapping[str, Any], trainer: "pl.Trainer") -> dict[str, Any]:
    """Tell all that decides which student comes of a run, by name: model, crops, and how gradients are gathered.

    Args:
        settings: Of the module, as plain data.
        trainer: That it is attached to, with its data.
    """
    described = {f"model.{name}": value for name, value in flatten(settings).items()}
    data = getattr(trainer, "datamodule", None)
    crops = getattr(data, "crop_settings", None)
    if is_dataclass(crops) and not isinstance(crops, type):
        described |= {f"data.{name}": value for name, value in flatten(asdict(crops)).items()}
        described["data.batch_size"] = getattr(data, "batch_size", None)
    for name in ("precision", "accumulate_grad_batches", "gradient_clip_val"):
        described[f"trainer.{name}"] = getattr(trainer, name)
    return described


def describe_optimizer(optimizer: Optimizer, scheduler: LRScheduler) -> dict[str, Any]:
    """Tell what optimiser and schedule were made of, by name, as far as they say."""
    defaults = {name: value for name, value in optimizer.defaults.items() if _is_plain(value)}
    schedule = {name: value for name, value in scheduler.state_dict().items() if _is_plain(value)}
    schedule = {name: value for name, value in schedule.items() if name not in PROGRESS}
    return {
        "model.optimizer": type(optimizer).__name__,
        **flatten(defaults, "model.optimizer."),
        "model.lr_scheduler": type(scheduler).__name__,
        **flatten(schedule, "model.lr_scheduler."),
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def require_same_run(stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Prove that a run which is resumed is the one that was begun.

    Args:
        stored: What its checkpoint says of it.
        now: What it would be now; names that the checkpoint lacks are passed over.

    Raises:
        ValueError: If they differ; every differing setting is named with both values.
    """
    known = {name: value for name, value in now.items() if name in stored and not name.startswith(FREE)}
    known = {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}
    different = list_differences(dict(stored), known, "in the checkpoint")
    if different:
        raise ValueError(
            f"this run cannot be resumed with other settings: {'; '.join(different)}. Set them back (the run folder's "
            "config.yaml has them all), or start a new run in another folder from its student: --model.backbone <run>"
        )
