"""Tasks that candidates are judged on: each a sibling of the others, none a special case.

A new task is one file here that defines a `Task`, and one line below.
"""

from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.classification import NearestNeighbours, UntouchedHead
from srt_distill.tasks.davis import Davis
from srt_distill.tasks.depth import Depth
from srt_distill.tasks.discovery import Discovery
from srt_distill.tasks.retrieval import Retrieval, RevisitedRetrieval
from srt_distill.tasks.saliency import Saliency
from srt_distill.tasks.segmentation import Nuclei, Segmentation, SegmentationNeighbours
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo

TASKS: dict[str, type[Task]] = {
    "davis": Davis,
    "retrieval": Retrieval,
    "revisited": RevisitedRetrieval,
    "knn": NearestNeighbours,
    "untouched_head": UntouchedHead,
    "depth": Depth,
    "saliency": Saliency,
    "discovery": Discovery,
    "segmentation": Segmentation,
    "segmentation_knn": SegmentationNeighbours,
    "nuclei": Nuclei,
}
"""Every task by the name of its group of options: `--davis ROOT --davis.scale 0.5`."""

__all__ = [
    "TASKS",
    "Candidate",
    "Davis",
    "Depth",
    "Discovery",
    "Item",
    "NearestNeighbours",
    "Nuclei",
    "Outcome",
    "Retrieval",
    "RevisitedRetrieval",
    "Saliency",
    "Score",
    "Segmentation",
    "SegmentationNeighbours",
    "Sheet",
    "Task",
    "TaskInfo",
    "UntouchedHead",
]
