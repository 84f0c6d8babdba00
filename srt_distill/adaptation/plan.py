"""Looks at images, model and machine, and chooses a run: a config that `fit` takes, and a screen that says why.

Shape legend: B images, H W pixels.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from srt_distill.adaptation.budget import Budget, in_words
from srt_distill.adaptation.choices import (
    choose_crop,
    choose_held_out,
    choose_scale,
    choose_steps,
    describe_numbers,
    look_at_sizes,
    merge,
)
from srt_distill.adaptation.headroom import Headroom, measure_headroom
from srt_distill.adaptation.machine import (
    LARGEST_BATCH,
    WORTH_COMPILING,
    Machine,
    StepTime,
    compiling_pays,
    fit_batch,
    repeat_crops,
    time_step,
)
from srt_distill.backbone import describe_backbone
from srt_distill.backbone.options import BackboneOptions
from srt_distill.data import UnlabeledImages
from srt_distill.data.loading import CropLoader
from srt_distill.data.recognition import Recognised
from srt_distill.training.configs import DEFAULT, find_config
from srt_distill.training.distillation import SRTDistillation

NUM_MEASUREMENTS = 4
"""Times that the student is measured on held-out images while it trains; the best is kept."""


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Attributes:
        settings: A run, as the YAML of `fit` has it.
        lines: What was chosen and why, a line by topic.
        headroom: What SRT changes of these features.
    """

    settings: dict[str, Any]
    lines: dict[str, str]
    headroom: Headroom

    @property
    def yaml(self) -> str:
        """Write the config that `fit --config` takes unchanged."""
        said = "".join(f"# {topic}: {line}\n" for topic, line in self.lines.items())
        return f"{said}{yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)}"

    def describe(self) -> list[str]:
        """Write a screen that says what was chosen."""
        width = max(map(len, self.lines))
        return [f"  {topic:<{width}}  {line}" for topic, line in self.lines.items()]

    @property
    def record(self) -> str:
        """Write what the config does not hold, as JSON."""
        return json.dumps({"lines": self.lines, "headroom": asdict(self.headroom)}, indent=1)


def load_plan(config: Path, record: Path) -> Plan:
    """Read a plan back: the settings from the config, which may have been edited, and the rest beside it.

    Raises:
        OSError: If one of the files cannot be read.
        ValueError: If one is not what `Plan` writes.
    """
    try:
        told = json.loads(record.read_text())
        settings = yaml.safe_load(config.read_text())
        return Plan(dict(settings), dict(told["lines"]), Headroom(**told["headroom"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{config} and {record.name} do not hold the plan of an adaptation ({error}); remove the folder, or name "
            "another --output"
        ) from error


def make_model(settings: dict[str, Any]) -> SRTDistillation:
    """Make the distillation that a run's settings describe.

    Args:
        settings: A run, as the YAML of `fit` has it.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SRTDistillation, "model")
    config = parser.parse_object({"model": {**settings["model"], "seed": settings["seed_everything"]}})
    return parser.instantiate(config).model


def make_data(settings: dict[str, Any], images: Recognised, model: SRTDistillation) -> UnlabeledImages:
    """Make the crops that a run's settings describe, of images at hand."""
    chosen = {name: value for name, value in settings["data"].items() if name != "source"}
    crop = chosen.pop("crop_size")
    return UnlabeledImages(
        images.source,
        crop_size=tuple(crop) if isinstance(crop, list) else crop,
        margin=model.reading.srt.margin,
        patch=model.patch_size,
        seed=settings["seed_everything"],
        **chosen,
    )


def measured_batches(data: UnlabeledImages) -> CropLoader:
    """Give the held-out crops, or the training crops where nothing is held out; after `setup`."""
    held_out = data.val_dataloader()
    return data.train_dataloader() if isinstance(held_out, list) else held_out


def make_plan(
    backbone: BackboneOptions, images: Recognised, machine: Machine, budget: Budget, folder: Path, seed: int
) -> Plan:
    """Choose a run: the default recipe, fitted to images, model and machine.

    Args:
        backbone: What is adapted.
        images: What to.
        machine: What computes.
        budget: What it may cost.
        folder: Of the run.
        seed: Of all that is random.

    Raises:
        ValueError: If the backbone or the images fit nothing.
        OSError: If no image can be read.
    """
    recipe = yaml.safe_load(find_config(DEFAULT).read_text())
    settings = merge(recipe, {"seed_everything": seed, "model": {"backbone": asdict(backbone)}})
    model = make_model(settings)
    model.configure_model()
    info, margin = describe_backbone(model.teacher), model.reading.srt.margin
    if images.source.num_channels != info.num_channels:
        raise ValueError(
            f"{info.name} takes images of {info.num_channels} channels, adapt reads images of "
            f"{images.source.num_channels}; use fit, with data.source.num_channels={info.num_channels}, and export"
        )
    sizes, count = look_at_sizes(images.source), len(images.source)
    scale = choose_scale(sizes)
    crop, held_out = choose_crop(sizes, scale, margin, info.patch_size, info.fixed_size), choose_held_out(count)
    data = {"source": images.config, "crop_size": list(crop), "scale": scale, "held_out": held_out}
    settings = merge(settings, {"data": {**data, "num_workers": machine.num_workers}})

    crops = make_data({**settings, "data": {**settings["data"], "num_workers": 0}}, images, model)
    crops.setup("fit")
    headroom = measure_headroom(model, measured_batches(crops), machine)
    few = next(iter(crops.train_dataloader()))
    first = crops.batch_size if machine.device.type == "cpu" else max(crops.batch_size, LARGEST_BATCH)
    batch, step = fit_batch(lambda count: time_step(model, repeat_crops(few, count), machine), first)
    choose = partial(_choose_steps, budget, count - held_out, batch, recipe["trainer"]["max_steps"])
    steps, steps_said = choose(step.seconds)
    kernels = ""
    if machine.is_gpu:
        settings = merge(settings, {"model": {"optimizer": {"init_args": {"fused": True}}}})
        kernels = ", fused AdamW"
    if machine.is_gpu and steps * step.seconds >= WORTH_COMPILING:
        compiled = _time_compiled(settings, repeat_crops(few, batch), machine)
        if compiled is not None and compiling_pays(step, compiled, steps):
            settings = merge(settings, {"model": {"execution": {"compile": True}}})
            kernels += f", compiled blocks ({step.seconds / compiled.seconds:.2f} times as fast)"
            step = compiled
            steps, steps_said = choose(step.seconds, compiled.first)
    trainer = {
        "accelerator": machine.accelerator,
        "devices": 1,
        "precision": machine.precision,
        "max_steps": steps,
        "val_check_interval": max(1, -(-steps // NUM_MEASUREMENTS)),
        "log_every_n_steps": min(recipe["trainer"]["log_every_n_steps"], max(1, steps // 10)),
        "default_root_dir": str(folder.absolute()),
    }
    settings = merge(settings, {"trainer": trainer, "data": {"batch_size": batch}})

    per_step = f"{step.seconds:.2f}" if step.seconds < 10 else f"{step.seconds:.0f}"
    lines = {
        "backbone": f"{backbone.name}: {info.name}, patch side {info.patch_size}, "
        f"{info.num_parameters / 1e6:.1f} million parameters",
        "images": f"{count:,} ({images.kind}), of about {describe_numbers((sizes.width, sizes.height))} pixels "
        f"(median of {sizes.num_seen})",
        "machine": f"{machine.name}, {machine.precision}{kernels}, "
        f"{machine.num_workers} loader process{'es' * (machine.num_workers != 1)}",
        "crops": _describe_crops(crop, scale, margin, info.fixed_size is not None),
        "batch": f"{batch} crops a step"
        + ("" if machine.device.type == "cpu" else ": the most that was tried and fits")
        + f"; {per_step} s a step",
        "steps": steps_said,
        "held out": f"{held_out} images to measure on, never trained on"
        if held_out
        else "nothing: one image cannot be trained on and measured on, so that whether it helped stays unknown",
        "worth it?": headroom.describe(),
    }
    return Plan(settings, lines, headroom)


def _time_compiled(settings: dict[str, Any], crops: Tensor, machine: Machine) -> StepTime | None:
    """Time a step with compiled blocks; None where they cannot be compiled here."""
    model = make_model(merge(settings, {"model": {"execution": {"compile": True}}}))
    try:
        model.configure_model()
        return time_step(model, crops, machine)
    except (RuntimeError, ValueError):  # no compiler, a model without a list of blocks, too little memory
        return None


def _describe_crops(crop: Sequence[int], scale: float, margin: int, fixed: bool) -> str:
    size = f"{describe_numbers(crop[::-1])} pixels" + " (the only size that the model takes)" * fixed
    return f"{size} with a margin of {margin}, of images " + (
        "as they are" if scale == 1 else f"at {scale:g} of their size"
    )


def _choose_steps(
    budget: Budget, num_images: int, batch: int, recipe_steps: int, step_seconds: float, compiling: float = 0.0
) -> tuple[int, str]:
    """Choose the number of steps, and say why and how long they take, after the seconds that compiling takes."""
    if budget.steps is not None:
        steps, why = budget.steps, "as asked for"
    elif budget.training_seconds is not None and budget.seconds is not None:
        steps = max(1, int((budget.training_seconds - compiling) / step_seconds))
        why = f"what {in_words(budget.seconds)} allow, less what export and report take"
    else:
        steps = choose_steps(num_images, batch, recipe_steps)
        why = "the default recipe's" if steps == recipe_steps else "fewer than the recipe's, as images are few"
    crops = steps * batch / num_images
    shown = f"{crops:.0f} crops of each image" if crops >= 1 else f"a crop of {crops:.0%} of the images"
    return (
        steps,
        f"{steps:,}, {why}: {shown}, about {in_words(steps * step_seconds)} (--budget 10m or 500 for less or more)",
    )
