"""`srt-distill compare`: teacher, full SRT and student side by side, on any tasks.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

import yaml

from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import STUDENT, Baseline, Comparison, log_comparison, open_candidates, render_markdown
from srt_distill.comparison import compare as compare_candidates
from srt_distill.ensemble.options import SRTOptions
from srt_distill.loggers import CLASS_NAMES, LoggerName
from srt_distill.runs import CONFIG_FILE
from srt_distill.tasks import Task


def compare(
    teacher: BackboneOptions,
    student: BackboneOptions,
    output: Path,
    tasks: Sequence[Task],
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SRTOptions(),
    execution: ExecutionOptions = ExecutionOptions(),
    baselines: Sequence[Baseline] = (),
    token_stride: int | None = None,
    log: Path | None = None,
    logger: LoggerName | None = None,
    num_pictures: int = 4,
    latency_pairs: int = 15,
    latency_budget: float = 20.0,
    progress: bool = True,
    command: str = "",
) -> Comparison:
    """Score teacher (one pass), teacher under SRT ((2d+1)² passes) and student (one pass) side by side.

    On every task whose data is named. Writes results.json, results.md and report.html (one self-contained page: tables,
    charts, pictures, features). Every gain has a paired bootstrap interval, and the verdict says where too few items
    were seen to tell. What is finished under the same settings is not judged again.

    Args:
        teacher: The original.
        student: The adapted one.
        output: Folder for the report.
        tasks: Tasks on their data.
        features: Which features are judged where a task does not name layers.
        srt: What SRT averages.
        execution: How models are run.
        baselines: Rows between SRT and student: what the paper compares SRT with, over the teacher's features.
            Interpolation costs no pass and gets a row over the student's features too.
        token_stride: Pixels between overlapping tokens; half the patch by default.
        log: A run folder: each candidate is logged as a trial with its scores, the tables and this page with them, to
            where the run was logged; or any folder, for TensorBoard.
        logger: Where it is logged, if not where the run was; without --log the output is the folder.
        num_pictures: Items per task shown in pictures, from the largest loss to the largest gain.
        latency_pairs: Pairs of calls timed per candidate; 0 times nothing.
        latency_budget: Seconds after which no further pair is begun.
        progress: Show progress bars.
        command: The command line, for the record.
    """
    lineup = open_candidates(
        teacher, {STUDENT: student}, features, srt, execution, baselines=baselines, token_stride=token_stride
    )
    comparison = compare_candidates(
        lineup.candidates,
        tasks,
        output,
        reference=lineup.reference,
        ensemble=lineup.ensemble,
        num_pictures=num_pictures,
        latency_pairs=latency_pairs,
        latency_budget=latency_budget,
        progress=progress,
        command=command,
    )
    if log is not None or logger is not None:
        folder = log or output
        names: list[LoggerName] = [logger] if logger else loggers_of_run(folder)
        for name in names:
            log_comparison(comparison, name, folder, output)
    print(render_markdown(comparison))
    print(f"report: {output / 'report.html'}")
    return comparison


def loggers_of_run(folder: Path) -> list[LoggerName]:
    """Tell where a run was logged; TensorBoard, where it does not say.

    Args:
        folder: Of the run, or any other.
    """
    config = folder / CONFIG_FILE
    given = yaml.safe_load(config.read_text())["trainer"].get("logger") if config.is_file() else None
    names: list[str] = []
    for item in given if isinstance(given, list) else [given]:
        name = str(item["class_path"]).rpartition(".")[2] if isinstance(item, dict) else str(item)
        names.append(CLASS_NAMES.get(name, name))
    return [cast(LoggerName, name) for name in names if name in get_args(LoggerName)] or ["tensorboard"]


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and compare."""
    compare(**CommandParser("compare", compare).read(arguments))
