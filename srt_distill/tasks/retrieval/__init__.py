"""Retrieval: of landmarks on revisited Oxford and Paris, and of instances in any folder of classes."""

from srt_distill.tasks.retrieval.folders import Retrieval
from srt_distill.tasks.retrieval.revisited import RevisitedRetrieval

__all__ = ["Retrieval", "RevisitedRetrieval"]
