"""A comparison in the log of a run: one trial per candidate with its settings and scores, the tables, the page.

Shape legend: none.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.tensorboard import SummaryWriter

from srt_distill.comparison.report.table import render_markdown
from srt_distill.comparison.rows import Comparison, as_folder
from srt_distill.loggers import LOG_FOLDER, LoggerName, log_files, opened_loggers

TAG = "compare"


class Trial(NamedTuple):
    """A candidate as loggers know it.

    Attributes:
        name: `compare/<candidate>`.
        settings: What it is and what it was scored on.
        scores: By task, with its gain over the reference; and seconds per image.
    """

    name: str
    settings: Mapping[str, Any]
    scores: Mapping[str, float]


def list_trials(comparison: Comparison) -> Iterator[Trial]:
    """Give the candidates of a comparison, one trial each."""
    costs = {cost.name: cost for cost in comparison.costs}
    shared = {f"{result.info.name}_items": len(result.items) for result in comparison.tasks}
    for name in (row.name for row in comparison.tasks[0].rows):
        settings, scores = {"candidate": name, **shared}, {}
        for result in comparison.tasks:
            row = result.row(name)
            scores |= {f"{TAG}/{result.info.name}/{score}": value for score, value in row.scores.items()}
            if row.gains:
                scores[f"{TAG}/{result.info.name}/gain"] = row.gains[result.headline.name]
        if name in costs:
            settings |= {"passes": costs[name].passes, "num_parameters": costs[name].num_parameters}
            scores[f"{TAG}/seconds_per_image"] = costs[name].seconds
        yield Trial(f"{TAG}/{as_folder(name)}", settings, scores)


def log_comparison(comparison: Comparison, logger: LoggerName, folder: Path, report: Path) -> None:
    """Log a comparison, each candidate as a run of its own so that they stand beside each other.

    TensorBoard shows them in the tab of hyperparameters and the tables as text; W&B and MLflow get tables and page in a
    run `compare`; CSV has a folder per candidate.

    Args:
        comparison: The rows.
        logger: Where to.
        folder: Run folder, or any other: see `srt_distill.loggers.make_logger`.
        report: Folder of the written report.
    """
    if logger == "tensorboard":
        _log_to_tensorboard(comparison, folder / LOG_FOLDER if (folder / LOG_FOLDER).is_dir() else folder)
        return
    for trial in list_trials(comparison):
        with opened_loggers(logger, folder, trial.name) as (opened,):
            opened.log_hyperparams(dict(trial.settings))
            opened.log_metrics(dict(trial.scores))
            opened.finalize("success")
    if logger != "csv":
        with opened_loggers(logger, folder, TAG) as (opened,):
            log_files(opened, [report / "results.md", report / "report.html"])
            opened.finalize("success")


def _log_to_tensorboard(comparison: Comparison, log: Path) -> None:
    with SummaryWriter(str(log), filename_suffix=".compare") as writer:
        writer.add_text(TAG, render_markdown(comparison))
        for trial in list_trials(comparison):
            writer.add_hparams(dict(trial.settings), dict(trial.scores), run_name=trial.name)
