"""`srt-distill cache`: the targets of a run, computed once.

Shape legend: none, tensors stay inside the library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from tqdm import tqdm

from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.run_parser import RunParser
from srt_distill.data import UnlabeledImages
from srt_distill.files import require_writable
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.fit import require_fitting_crops
from srt_distill.training.run_trainer import in_words, quiet_lightning
from srt_distill.training.target_cache import (
    CacheLayout,
    describe_settings,
    fill_shards,
    prepare_folder,
    unfinished_shards,
)

DESCRIPTION = """Compute the SRT targets of a run's fixed training crops once, for `srt-distill fit` to read.

Takes the config and options of the run. The crops must be fixed, which data.views does (crops per image):

  srt-distill cache --config demo --data.views 4 --output runs/demo/targets
  srt-distill fit --config demo --data.views 4 --model.target CachedShifts --model.target.folder runs/demo/targets

A killed command goes on when it is run again; a damaged file is found and computed again. Several processes, on one
machine or on many that share a disk, divide the work under --num_processes 4 --process 0 (1, 2, 3)."""

ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False, "enable_checkpointing": False}
"""The trainer is there for its device and precision alone: it makes no run folder and may find one."""


class CacheParser(RunParser):
    """A run, and where and how its targets are cached."""

    def __init__(self) -> None:
        super().__init__("cache", DESCRIPTION)
        self.parser.add_argument("--output", type=Path, required=True, help="Folder of the cache.")
        self.parser.add_argument(
            "--crops_per_shard", type=int, default=64, help="Crops per file: what a kill can cost."
        )
        self.parser.add_argument("--num_processes", type=int, default=1, help="Processes that share the work.")
        self.parser.add_argument("--process", type=int, default=0, help="Which of them this is, from 0.")
        # a run's config may hold these, which a cache has no use for
        self.parser.add_argument("--resume", type=str | None)
        self.parser.add_argument("--checkpoint_every", type=int, default=100)
        self.parser.add_argument("--patience", type=int | None)
        self.parser.add_argument("--rounds", type=int, default=1)


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, compute what is missing of the cache, and say what comes next."""
    parser = CacheParser()
    config = parser.read(arguments)
    if config.rounds > 1:
        raise ValueError(
            f"rounds {config.rounds}: a cache holds the targets of one teacher, and each round has another; "
            "cache with --rounds 1"
        )
    parts = parser.make_run(config, BackboneOptions(**vars(config.model.backbone)), None)
    require_writable(config.output)
    with quiet_lightning(), in_words(parts.trainer):
        trainer = pl.Trainer(**{**parts.trainer, **ALONE, "callbacks": None})
    fill_cache(parts.model, cast(UnlabeledImages, parts.data), trainer, config)


def fill_cache(model: SRTDistillation, data: UnlabeledImages, trainer: pl.Trainer, config: Namespace) -> None:
    """Compute what is missing of a cache, and say what comes next."""
    require_fitting_crops(model, data)
    data.setup("fit")
    folder, layout = config.output, CacheLayout(data.num_fixed_crops, config.crops_per_shard)
    precision = trainer.precision_plugin
    model.trainer = trainer
    model.configure_model()
    precision.convert_module(model).to(trainer.strategy.root_device)
    manifest = prepare_folder(folder, describe_settings(model.target_settings, data.crop_settings), layout)

    mine = range(config.process, layout.num_shards, config.num_processes)
    shards = unfinished_shards(folder, manifest, config.num_processes, config.process)
    progress = tqdm(total=sum(len(layout.numbers(shard)) for shard in mine), unit="crop", desc="caching targets")
    progress.update(progress.total - sum(len(layout.numbers(shard)) for shard in shards))
    with progress, torch.inference_mode(), precision.forward_context():
        for num_crops in fill_shards(
            folder,
            manifest,
            shards,
            load=data.fixed_crops_dataloader,
            compute=lambda crops: model.frozen.srt(model.normalization(crops.to(model.device))),
            batch_size=data.batch_size,
        ):
            progress.update(num_crops)

    size, passes = sum(path.stat().st_size for path in folder.glob("shard-*.safetensors")), model.frozen.srt.shifts
    print(f"\n{layout.num_crops} crops, {len(passes)} teacher passes each; {size / 1e6:,.1f} MB in {folder}")
    print(f"computed now: {len(shards)} of this process's {len(mine)} shards; {layout.num_shards} in all")
    if data.num_unreadable:
        print(f"unreadable images skipped: {data.num_unreadable}")
    options = f"--model.target CachedShifts --model.target.folder {folder} --data.views {data.views}"
    print(f"train on it:  srt-distill fit --config <the same config> {options}")
