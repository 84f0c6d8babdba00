"""`srt-distill compare`: teacher, full SRT and student side by side, on any tasks.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import STUDENT, Baseline, Comparison, log_comparison, open_candidates, render_markdown
from srt_distill.comparison import compare as compare_candidates
from srt_distill.ensemble.options import SRTOptions
from srt_distill.tasks import Task

LOG_FOLDER = "tensorboard"  # in a run folder, where `srt-distill fit` keeps its log


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
    tensorboard: Path | None = None,
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
        tensorboard: A run folder, or any folder of a TensorBoard log: the tables go there as text, and each candidate
            as a trial with its scores into the tab of hyperparameters.
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
    if tensorboard is not None:
        run_log = tensorboard / LOG_FOLDER
        log_comparison(comparison, run_log if run_log.is_dir() else tensorboard)
    print(render_markdown(comparison))
    print(f"report: {output / 'report.html'}")
    return comparison


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and compare."""
    compare(**CommandParser("compare", compare).read(arguments))
