"""`srt-distill cache`: the targets of a run, computed once.

Shape legend: none, tensors stay inside the library.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser
from tqdm import tqdm

from srt_distill.commands.fit import EXPECTED_WARNINGS, FitParser
from srt_distill.data import UnlabeledImages
from srt_distill.files import require_writable
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.target_cache import (
    CacheLayout,
    describe_settings,
    fill_shards,
    prepare_folder,
    unfinished_shards,
)


class CacheParser(FitParser):
    """Command line and YAML of a run, and where and how its targets are cached."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a run does not have."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--output", type=str | None, help="Folder of the cache; by default model.target_cache.")
        parser.add_argument("--crops_per_shard", type=int, default=64, help="Crops a file: what a kill can cost.")
        parser.add_argument("--num_processes", type=int, default=1, help="Processes that share the work.")
        parser.add_argument("--process", type=int, default=0, help="Which of them this is, from 0.")

    def instantiate_classes(self) -> None:
        """Build trainer, model and data of a run of one round.

        Raises:
            ValueError: If there are several.
        """
        if self.config.rounds > 1:
            raise ValueError(
                f"rounds {self.config.rounds}: a cache holds the targets of one teacher, and each round has another; "
                "cache with --rounds 1"
            )
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build a trainer for its device and precision alone: it makes no run folder and may find one."""
        alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False, "enable_checkpointing": False}
        return super(FitParser, self).instantiate_trainer(**(kwargs | alone))


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, compute what is missing of the cache, and say what comes next."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    cli = CacheParser(
        SRTDistillation,
        UnlabeledImages,
        run=False,
        args=list(arguments),
        seed_everything_default=0,
        save_config_callback=None,
        parser_kwargs={"prog": "srt-distill cache", "description": DESCRIPTION},
    )
    module, data, trainer, config = cli.model, cli.datamodule, cli.trainer, cli.config
    output = config.output or config.model.target_cache
    if output is None:
        raise ValueError("no folder for the cache; name one with --output, or as model.target_cache in the config")
    folder = Path(output)
    require_writable(folder)
    data.setup("fit")
    layout = CacheLayout(data.num_fixed_crops, config.crops_per_shard)
    precision = trainer.precision_plugin
    module.trainer = trainer
    module.configure_model()
    precision.convert_module(module).to(trainer.strategy.root_device)
    manifest = prepare_folder(folder, describe_settings(module.target_settings, data.crop_settings), layout)

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
            compute=lambda crops: module.srt(module.normalize(crops.to(module.device))),
            batch_size=data.batch_size,
        ):
            progress.update(num_crops)

    size = sum(path.stat().st_size for path in folder.glob("shard-*.safetensors"))
    print(f"\n{layout.num_crops} crops, {len(module.srt.shifts)} teacher passes each; {size / 1e6:,.1f} MB in {folder}")
    print(f"computed now: {len(shards)} of this process's {len(mine)} shards; {layout.num_shards} in all")
    if data.num_unreadable:
        print(f"unreadable images skipped: {data.num_unreadable}")
    options = f"--model.target_cache {folder} --model.shifts_per_step null --data.views {data.views}"
    print(f"train on it:  srt-distill fit --config <the same config> {options}")


DESCRIPTION = """Compute the SRT targets of a run's fixed training crops once, for `srt-distill fit` to read.

Takes the config and options of the run. The crops must be fixed, which data.views does (a number of crops an image):

  srt-distill cache --config configs/distill/demo.yaml --data.views 4 --output runs/demo/targets
  srt-distill fit --config configs/distill/demo.yaml --data.views 4 --model.target_cache runs/demo/targets \\
    --model.shifts_per_step null

A killed command goes on when it is run again; a damaged file is found and computed again. Several processes, on one
machine or on many that share a disk, divide the work under --num_processes 4 --process 0 (1, 2, 3)."""
