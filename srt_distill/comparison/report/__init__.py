"""The report of a comparison: tables, Markdown, charts, pictures, one HTML page, and where it is logged."""

from srt_distill.comparison.report.logs import log_comparison
from srt_distill.comparison.report.page import render_html
from srt_distill.comparison.report.sheets import ItemPictures, draw_sheets
from srt_distill.comparison.report.table import render_markdown

__all__ = ["ItemPictures", "draw_sheets", "log_comparison", "render_html", "render_markdown"]
