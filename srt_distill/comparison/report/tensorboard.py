"""A comparison in a TensorBoard log: the table as text, one trial a row in the tab of hyperparameters.

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
        log: Folder of the log. The text goes there under the tag `compare`; each row becomes a run of its own below,
            `compare/<method>`, so that TensorBoard sets the rows beside each other.
    """
    shared = {
        "sequences": ", ".join(comparison.settings["sequences"]),
        "num_frames": comparison.settings["num_frames"],
        "scale": comparison.settings["scale"],
    }
    with SummaryWriter(str(log), filename_suffix=".compare") as writer:
        writer.add_text(TAG, render_markdown(comparison))
        for row in comparison.rows:
            scores = {f"{TAG}/{name}": value for name, value in row.result.scores.items()}
            scores |= {f"{TAG}/gain": comparison.gain(row), f"{TAG}/seconds_per_frame": row.seconds}
            settings = {"method": row.name, "passes": row.passes, "num_parameters": row.num_parameters, **shared}
            writer.add_hparams(settings, scores, run_name=f"{TAG}/{as_folder(row.name)}")
