"""The report of a comparison: table, Markdown, charts, pictures and one HTML page."""

from srt_distill.comparison.report.page import render_html
from srt_distill.comparison.report.pictures import draw_pictures
from srt_distill.comparison.report.table import render_markdown
from srt_distill.comparison.report.tensorboard import log_comparison

__all__ = ["draw_pictures", "log_comparison", "render_html", "render_markdown"]
