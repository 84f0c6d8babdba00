"""Object discovery: one box per photograph, by TokenCut and by LOST, against annotated ones."""

from srt_distill.tasks.discovery.task import Discovery

__all__ = ["Discovery"]
