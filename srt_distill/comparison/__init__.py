"""Candidates on tasks, side by side: one answer, with its intervals, costs and pictures."""

from srt_distill.comparison.candidates import (
    SINGLE_PASS,
    STUDENT,
    TEACHER,
    Baseline,
    Lineup,
    baseline_over,
    open_candidate,
    open_candidates,
    single_pass,
    srt_reader,
    under_srt,
)
from srt_distill.comparison.compare import compare, evaluate
from srt_distill.comparison.judging import Judged, judge_items
from srt_distill.comparison.models import Model, choose_device, load_model, prepare_model, require_maps
from srt_distill.comparison.report import log_comparison, render_markdown
from srt_distill.comparison.rows import Comparison, Cost, Row, TaskResult

__all__ = [
    "SINGLE_PASS",
    "STUDENT",
    "TEACHER",
    "Baseline",
    "Comparison",
    "Cost",
    "Judged",
    "Lineup",
    "Model",
    "Row",
    "TaskResult",
    "baseline_over",
    "choose_device",
    "compare",
    "evaluate",
    "judge_items",
    "load_model",
    "log_comparison",
    "open_candidate",
    "open_candidates",
    "prepare_model",
    "render_markdown",
    "require_maps",
    "single_pass",
    "srt_reader",
    "under_srt",
]
