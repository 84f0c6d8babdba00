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
from pytorch_lightning.utilities import rank_zero_only

from srt_distill.data import UnlabeledImages
from srt_distill.files import require_writable
from srt_distill.runs import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    LAST_CHECKPOINT,
    STUDENT_FOLDER,
    count_finished_rounds,
    record_scores,
    round_folder,
    save_student,
)
from srt_distill.training.callbacks import FeaturePanels, Throughput
from srt_distill.training.distillation import SRTDistillation

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
        parser.add_argument(
            "--rounds",
            type=int,
            default=1,
            help="Runs in a row, each in a folder round-<n> of its own with the student of the one before as teacher.",
        )
        parser.link_arguments("data.margin", "model.margin")
        parser.set_defaults({"trainer.default_root_dir": "runs/srt_distill"})

    def instantiate_classes(self) -> None:
        """Build trainer, model and data; of several rounds each does so for itself."""
        if self.config.rounds < 1:
            raise ValueError(f"rounds {self.config.rounds} is not a positive number; use 1 or more")
        if self.config.rounds == 1:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with a run folder of its own: checkpoints, TensorBoard log, config."""
        root = Path(self.config.trainer.default_root_dir)
        last = root / CHECKPOINT_FOLDER / LAST_CHECKPOINT
        if self.config.ckpt_path is None and (last.exists() or round_folder(root, 1).exists()):
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
        trainer.callbacks.extend([keep, FeaturePanels(), Throughput()])
        if kwargs["logger"]:
            trainer.callbacks.append(LearningRateMonitor(logging_interval="step"))
        return trainer


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, train one round or several, and say what came out and what comes next."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    cli = parse(arguments)
    root = Path(cli.config.trainer.default_root_dir)
    if cli.config.rounds == 1:
        train(cli)
    else:
        train_rounds(cli, arguments)
    if rank_zero_only.rank == 0:
        print(f"look at it:  tensorboard --logdir {root}")
        print(f"export it:   srt-distill export --checkpoint {root} --output checkpoints/{root.name}")


def parse(arguments: Sequence[str]) -> FitParser:
    """Read the command line; of a single round, trainer, model and data are there afterwards."""
    return FitParser(
        SRTDistillation,
        UnlabeledImages,
        run=False,
        args=list(arguments),
        seed_everything_default=0,
        save_config_callback=None,
        parser_kwargs={"prog": "srt-distill fit", "description": DESCRIPTION},
    )


def train_rounds(cli: FitParser, arguments: Sequence[str]) -> None:
    """Train round after round: each is what a run of one round would be, from the student of the one before.

    Args:
        cli: The command line as parsed.
        arguments: The same in words, to which each round adds its own.

    Raises:
        ValueError: If the folder holds what the settings do not go with.
    """
    config = cli.config
    root = Path(config.trainer.default_root_dir)
    finished = check_rounds(root, config.rounds, config.ckpt_path, config.model.target_cache)
    origin, origin_weights = config.model.backbone, config.model.weights
    require_writable(root)
    if rank_zero_only.rank == 0:
        cli.parser.save(config, root / CONFIG_FILE, overwrite=True, skip_validation=True)
    for number in range(finished + 1, config.rounds + 1):
        folder = round_folder(root, number)
        words = [*arguments, "--rounds", "1", "--trainer.default_root_dir", str(folder)]
        begun = (folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT).exists()
        words += ["--ckpt_path", "last" if begun else "null"]
        if number > 1:
            teacher = round_folder(root, number - 1) / STUDENT_FOLDER
            words += ["--model.backbone", f"local-dir:{teacher}", "--model.weights", "null"]
            words += ["--model.origin", origin, "--model.origin_weights", origin_weights or "null"]
        if rank_zero_only.rank == 0:
            print(f"\nRound {number} of {config.rounds}")
        trainer = train(parse(words))
        if trainer.is_global_zero:
            save_student(folder)
        trainer.strategy.barrier()


def check_rounds(root: Path, rounds: int, ckpt_path: str | None, target_cache: str | None) -> int:
    """Refuse settings that do not go with several rounds, or not with what there is of them.

    Returns:
        How many rounds are finished.

    Raises:
        ValueError: If there is anything to refuse.
    """
    if target_cache is not None:
        raise ValueError(
            f"rounds {rounds} with target_cache {target_cache}: it holds the targets of the first round's teacher, and "
            "each round has another; set target_cache null, or run and cache round by round"
        )
    if ckpt_path not in (None, "last"):
        raise ValueError(f"rounds {rounds} with ckpt_path {ckpt_path}: rounds are resumed with --ckpt_path last only")
    if (root / CHECKPOINT_FOLDER / LAST_CHECKPOINT).exists():
        raise ValueError(f"{root} holds a run without rounds; name another folder with --trainer.default_root_dir")
    finished = count_finished_rounds(root)
    begun = finished > 0 or (round_folder(root, 1) / CHECKPOINT_FOLDER / LAST_CHECKPOINT).exists()
    if begun and ckpt_path is None:
        raise ValueError(
            f"{root} already holds rounds; continue with --ckpt_path last, or name another folder with "
            "--trainer.default_root_dir"
        )
    if ckpt_path == "last" and not begun:
        raise ValueError(f"{root} holds no rounds to resume; leave --ckpt_path out to start them")
    if finished >= rounds:
        raise ValueError(f"all {rounds} rounds in {root} are finished; give a larger --rounds to go on from there")
    return finished


def train(cli: FitParser) -> pl.Trainer:
    """Train what was parsed, and say what came out."""
    trainer, root = cli.trainer, Path(cli.config.trainer.default_root_dir)
    if trainer.is_global_zero:
        cli.parser.save(cli.config, root / CONFIG_FILE, overwrite=True, skip_validation=True)
    trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    if trainer.interrupted:
        raise RuntimeError(f"interrupted at step {trainer.global_step}; continue with --ckpt_path last")
    last = root / CHECKPOINT_FOLDER / LAST_CHECKPOINT
    if trainer.global_step % cli.config.checkpoint_every:
        trainer.save_checkpoint(last)
    elif trainer.is_global_zero:  # the last step's checkpoint is there already, but was written before the validation
        record_scores(last, {name: value.item() for name, value in trainer.callback_metrics.items()})
    if trainer.is_global_zero:
        print(f"\nTrained {trainer.global_step} steps; run folder {root}")
        whose = {"gap_closed": "this run's teacher", "gap_closed_origin": "the first round's teacher"}
        for name, teacher in whose.items():
            gap = trainer.callback_metrics.get(f"val/{name}")
            if gap is not None:
                print(f"gap closed on held-out images: {gap:.3f} (0 = {teacher}, 1 = its target in one pass)")
        if cli.datamodule.num_unreadable:
            print(f"unreadable images skipped: {cli.datamodule.num_unreadable}")
    return trainer


DESCRIPTION = """Adapt a backbone to unlabeled images by distilling its SRT features into its weights (paper, Eq. 6).

One YAML is one complete run; every value in it can be given on the command line too, which wins:

  srt-distill fit --config configs/distill/demo.yaml --trainer.max_steps 200 --model.shifts_per_step 4

The run folder (trainer.default_root_dir) gets checkpoints, a TensorBoard log and the full config. A killed run goes on
under --ckpt_path last. --rounds 2 trains twice, the second time with the first student as the frozen teacher.

Images come from data.source: ImageFolder, FileList, DavisFrames, HuggingFaceImages, VideoFrames or
a Mixture of them (`srt-distill fit --data.source.help ImageFolder` lists the options of one)."""
