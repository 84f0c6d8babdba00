"""The report of a comparison: table, Markdown, charts, pictures and one HTML page."""

from srt_distill.evaluation.report.page import render_html
from srt_distill.evaluation.report.pictures import draw_pictures
from srt_distill.evaluation.report.table import render_markdown
from srt_distill.evaluation.report.tensorboard import log_comparison

__all__ = ["draw_pictures", "log_comparison", "render_html", "render_markdown"]
