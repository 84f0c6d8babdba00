"""The whole job in one call: look at images and machine, choose, train, export, judge, report."""

from srt_distill.adaptation.job import Adaptation, adapt

__all__ = ["Adaptation", "adapt"]
