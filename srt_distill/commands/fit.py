"""`srt-distill fit`: adapt a backbone to unlabeled images.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.run_parser import RunParser, backbone_options, run_folder
from srt_distill.loggers import how_to_look
from srt_distill.runs import RELATIONS_CLOSED
from srt_distill.training.fit import FitResult, fit
from srt_distill.training.rounds import distill_rounds

DESCRIPTION = """Adapt a backbone to unlabeled images by distilling its SRT features into its weights (paper, Eq. 6).

  srt-distill fit --model.backbone vit_small_patch16_224.dino --data.source ImageFolder --data.source.root photos

The rest is the default recipe, configs/distill/default.yaml. A YAML of your own goes on top of it (--config), and the
command line on top of that. Images come from data.source: ImageFolder, FileList, DavisFrames, HuggingFaceImages,
VideoFrames, TarShards, HuggingFaceStream or a Mixture; --data.source.help ImageFolder lists the options of one. So do
--model.target.help SampledShifts, --model.optimizer.help AdamW, --trainer.logger.help, --trainer.callbacks.help.

The run folder gets checkpoints, a TensorBoard log and the full config; --trainer.logger csv, wandb or mlflow logs there
instead. A stopped or killed run goes on under --resume last. --rounds 2 trains twice, the second time with the first
student as the frozen teacher."""


class FitParser(RunParser):
    """A run, and how it is started, saved and repeated."""

    def __init__(self) -> None:
        super().__init__("fit", DESCRIPTION)
        self.parser.add_argument(
            "--resume",
            type=str | None,
            help="`last` goes on with the run in the folder, `auto` does if there is one; or a .ckpt file.",
        )
        self.parser.add_argument(
            "--checkpoint_every",
            type=int,
            default=100,
            help="Steps between checkpoints that a killed run resumes from; 0 saves at the end only.",
        )
        self.parser.add_argument(
            "--patience",
            type=int | None,
            help="Stop after so many measurements without a higher val/gap_closed (or val/relations_closed, where "
            "relations are taught); null never does.",
        )
        self.parser.add_argument(
            "--rounds",
            type=int,
            default=1,
            help="Runs in a row, each in a folder round-<n> of its own with the student of the one before as teacher.",
        )


def run(arguments: Sequence[str]) -> None:
    """Parse the command line, train one round or several, and say what came out and what comes next.

    Raises:
        SystemExit: If the run was told to stop, with 128 + the number of the signal.
    """
    parser = FitParser()
    config = parser.read(arguments)
    backbone, folder = BackboneOptions(**vars(config.model.backbone)), run_folder(config)
    how: dict[str, Any] = {name: config[name] for name in ("resume", "checkpoint_every", "patience")}
    if config.rounds == 1:
        parts = parser.make_run(config, backbone, backbone_options(config.model.origin))
        result = fit(parts.model, parts.data, folder, config=parts.config, **how, **parts.trainer)
    else:
        result = distill_rounds(
            lambda teacher, first, place: parser.make_run(one_round(config, place), teacher, first),
            backbone,
            folder,
            config.rounds,
            config=parser.write(config),
            **how,
        )
    if rank_zero_only.rank == 0:
        print("\n".join(["", *describe_result(result), *advise(result, folder)]), flush=True)
    if result.stopped_by is not None:
        raise SystemExit(128 + result.stopped_by)


def one_round(config: Namespace, folder: Path) -> Namespace:
    """Make the configuration of one round out of that of several."""
    config = config.clone()
    config.rounds, config.trainer.default_root_dir = 1, str(folder)
    return config


def describe_result(result: FitResult) -> list[str]:
    """Say in lines what came of a run: of the final weights, dense layers first, and plainly where it did not help."""
    if result.stopped_by is not None:
        saved = f"saved at step {result.steps}" if result.steps else "before the first step, so that nothing was saved"
        return [f"stopped by {result.stopped_by.name}, {saved}"]
    if result.dry:
        return [f"dry run: {result.steps} steps and a measurement went through; nothing is kept"]
    lines = [f"Trained {result.steps} steps; run folder {result.folder}"]
    gap = result.scores.get("val/gap_closed")
    if gap is None:
        lines.append("nothing was measured: no images were held out (data.held_out), so whether it helped is not known")
    else:
        relations, ends = result.scores.get(RELATIONS_CLOSED), "(0 = the teacher's single pass, 1 = its SRT)"
        if relations is not None:
            lines.append(f"relations between tokens, closed on held-out images: {relations:.3f} {ends}")
        lines.append(f"gap closed on held-out images: {gap:.3f} {ends if relations is None else '(of values)'}")
        if (gap if relations is None else relations) <= 0:
            lines.append("the student is no nearer to SRT than its teacher is: it did not help on these images")
    for layer in result.layers:
        by_layer = result.scores.get(f"val/gap_closed_layer_{layer}")
        if by_layer is not None:
            lines.append(f"  layer {layer}: {by_layer:.3f}")
    origin = result.scores.get("val/gap_closed_origin")
    if origin is not None:
        lines.append(f"gap closed from the first round's teacher: {origin:.3f}")
    tasks = {name: value for name, value in result.scores.items() if not name.startswith("val/")}
    lines += [f"{name}: {value:.4f}" for name, value in tasks.items()]
    if result.num_unreadable:
        lines.append(f"unreadable images skipped: {result.num_unreadable}")
    return lines


def advise(result: FitResult, folder: Path) -> list[str]:
    """Say in lines what comes next."""
    if result.stopped_by is not None:
        return ["go on:       the same command with --resume last"] if result.steps else []
    if result.dry:
        return []
    looks = [how_to_look(logger, folder) for logger in result.loggers]
    return [
        *(f"look at it:  {look}" for look in looks if look),
        f"export it:   srt-distill export --checkpoint {folder} --output checkpoints/{folder.name}",
    ]
