"""A comparison in a TensorBoard log: the tables as text, one trial per candidate in the tab of hyperparameters.

Shape legend: none.
"""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from srt_distill.comparison.report.table import render_markdown
from srt_distill.comparison.rows import Comparison, as_folder

TAG = "compare"


def log_comparison(comparison: Comparison, log: Path) -> None:
    """Write a comparison into a log folder.

    Args:
        comparison: The rows.
        log: Folder of the log. The text goes there under the tag `compare`; each candidate becomes a run of its own
            below, `compare/<candidate>`, so that TensorBoard sets them beside each other.
    """
    costs = {cost.name: cost for cost in comparison.costs}
    shared = {f"{result.info.name}_items": len(result.items) for result in comparison.tasks}
    with SummaryWriter(str(log), filename_suffix=".compare") as writer:
        writer.add_text(TAG, render_markdown(comparison))
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
            writer.add_hparams(settings, scores, run_name=f"{TAG}/{as_folder(name)}")
