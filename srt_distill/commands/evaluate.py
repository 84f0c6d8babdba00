"""`srt-distill evaluate`: any backbone on any task.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import SINGLE_PASS, Baseline, Comparison, open_candidate
from srt_distill.comparison import evaluate as evaluate_candidate
from srt_distill.ensemble.options import SRTOptions
from srt_distill.tasks import Task


def evaluate(
    backbone: BackboneOptions,
    output: Path,
    tasks: Sequence[Task],
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SINGLE_PASS,
    execution: ExecutionOptions = ExecutionOptions(),
    baseline: Baseline | None = None,
    token_stride: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Score a backbone, in one pass or under SRT, on every task whose data is named.

    Writes results.json and what each task writes (of DAVIS palette masks and the two official tables). What is finished
    under the same settings is not judged again.

    Args:
        backbone: The model.
        output: Folder for the results.
        tasks: Tasks on their data.
        features: Which features are judged where a task does not name layers.
        srt: What SRT averages; by default the single pass.
        execution: How the model is run.
        baseline: What the paper compares SRT with, in its place; ensembles take as many passes as SRT would.
        token_stride: Pixels between overlapping tokens; half the patch by default.
        progress: Show progress bars.
    """
    candidate = open_candidate(backbone, features, srt, execution, baseline=baseline, token_stride=token_stride)
    comparison = evaluate_candidate(candidate, tasks, output, progress=progress)
    for result in comparison.tasks:
        print_scores(comparison, result.info.name)
    print(f"passes per image: {candidate.passes}; results in {output}")
    return comparison


def print_scores(comparison: Comparison, task: str, num_scores: int = 3) -> None:
    """Print the first scores of a task, of every item and of all."""
    result = next(result for result in comparison.tasks if result.info.name == task)
    names = [score.name for score in result.info.scores[:num_scores]]
    row = result.rows[0]
    lines = [*row.by_item.items()] if len(result.items) <= 60 else []
    lines.append((f"all {len(result.items)} {result.info.item}s", row.scores))
    width = max(len(task), *(len(name) for name, _ in lines))
    print(f"{task:<{width}}  " + "  ".join(names))
    for name, scores in lines:
        print(f"{name:<{width}}  " + "  ".join(f"{scores[score]:{len(score)}.4f}" for score in names))


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and evaluate."""
    evaluate(**CommandParser("evaluate", evaluate).read(arguments))
