"""`srt-distill fit`: adapt a backbone to unlabeled images.

Shape legend: none, tensors stay inside the trainer.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger

from srt_distill.data import UnlabeledImages
from srt_distill.distillation import SRTDistillation
from srt_distill.files import require_writable
from srt_distill.monitoring import FeaturePanels
from srt_distill.runs import CHECKPOINT_FOLDER, CONFIG_FILE, LAST_CHECKPOINT

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*is smaller than the logging interval.*",
    ".*Found .* module.* in eval mode at the start of training.*",  # both backbones: meant so
    ".*LightningCLI's args parameter.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*`weights_only` was not set.*",
)


class FitParser(LightningCLI):
    """Command line and YAML of a run: `trainer`, `model` and `data`, each the arguments of its class."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is no argument of trainer, model or data."""
        parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint to resume from; 'last' for the run's own.")
        parser.add_argument(
            "--checkpoint_every",
            type=int,
            default=100,
            help="Steps between checkpoints that a killed run resumes from.",
        )
        parser.link_arguments("data.margin", "model.margin")
        parser.set_defaults({"trainer.default_root_dir": "runs/srt_distill"})

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with a run folder of its own: checkpoints, TensorBoard log, config."""
        root = Path(self.config.trainer.default_root_dir)
        last = root / CHECKPOINT_FOLDER / LAST_CHECKPOINT
        if self.config.ckpt_path is None and last.exists():
            raise ValueError(
                f"{root} already holds a run; continue it with --ckpt_path last, or name another folder with "
                "--trainer.default_root_dir"
            )
        if self.config.ckpt_path == "last":
            if not last.exists():
                raise ValueError(
                    f"{root} holds no run to resume: {last} is missing; leave --ckpt_path out to start one"
                )
            self.config.ckpt_path = str(last)
        require_writable(root)
        kwargs.setdefault("logger", self._get(self.config_init, "trainer").logger)
        if kwargs["logger"] in (None, True):
            kwargs["logger"] = TensorBoardLogger(root, name="tensorboard", version="", default_hp_metric=False)
        trainer: Any = super().instantiate_trainer(**kwargs)
        keep = ModelCheckpoint(
            dirpath=root / CHECKPOINT_FOLDER,
            filename=Path(LAST_CHECKPOINT).stem,
            every_n_train_steps=self.config.checkpoint_every,
            enable_version_counter=False,
        )
        trainer.callbacks.extend([keep, FeaturePanels()])
        if kwargs["logger"]:
            trainer.callbacks.append(LearningRateMonitor(logging_interval="step"))
        return trainer


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, train, and say what came out and what comes next."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    cli = FitParser(
        SRTDistillation,
        UnlabeledImages,
        run=False,
        args=list(arguments),
        seed_everything_default=0,
        save_config_callback=None,
        parser_kwargs={"prog": "srt-distill fit", "description": DESCRIPTION},
    )
    trainer, root = cli.trainer, Path(cli.config.trainer.default_root_dir)
    if trainer.is_global_zero:
        cli.parser.save(cli.config, root / CONFIG_FILE, overwrite=True, skip_validation=True)
    trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    if trainer.interrupted:
        raise RuntimeError(f"interrupted at step {trainer.global_step}; continue with --ckpt_path last")
    if trainer.global_step % cli.config.checkpoint_every:  # else the last step's checkpoint is there already
        trainer.save_checkpoint(root / CHECKPOINT_FOLDER / LAST_CHECKPOINT)
    if not trainer.is_global_zero:
        return
    gap = trainer.callback_metrics.get("val/gap_closed")
    print(f"\nTrained {trainer.global_step} steps; run folder {root}")
    if gap is not None:
        print(f"gap closed on held-out images: {gap:.3f} (0 = untouched, 1 = SRT's features in one pass)")
    if cli.datamodule.num_unreadable:
        print(f"unreadable images skipped: {cli.datamodule.num_unreadable}")
    print(f"look at it:  tensorboard --logdir {root}")
    print(f"export it:   srt-distill export --checkpoint {root} --output checkpoints/{root.name}")


DESCRIPTION = """Adapt a backbone to unlabeled images by distilling its SRT features into its weights (paper, Eq. 6).

One YAML is one complete run; every value in it can be given on the command line too, which wins:

  srt-distill fit --config configs/distill/demo.yaml --trainer.max_steps 200 --model.shifts_per_step 4

The run folder (trainer.default_root_dir) gets checkpoints, a TensorBoard log and the full config. A killed run goes on
under --ckpt_path last. Images come from data.source: ImageFolder, FileList, DavisFrames, HuggingFaceImages or
VideoFrames (`srt-distill fit --data.source.help ImageFolder` lists the options of one)."""
