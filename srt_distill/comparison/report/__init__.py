"""The report of a comparison: tables, Markdown, charts, pictures, TensorBoard and one HTML page."""

from srt_distill.comparison.report.page import render_html
from srt_distill.comparison.report.sheets import ItemPictures, draw_sheets
from srt_distill.comparison.report.table import render_markdown
from srt_distill.comparison.report.tensorboard import log_comparison

__all__ = ["ItemPictures", "draw_sheets", "log_comparison", "render_html", "render_markdown"]
