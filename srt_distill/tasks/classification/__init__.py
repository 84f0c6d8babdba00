"""Classification without training: by nearest neighbours, and by the classifier that came with the weights."""

from srt_distill.tasks.classification.nearest_neighbours import NearestNeighbours
from srt_distill.tasks.classification.untouched_head import UntouchedHead

__all__ = ["NearestNeighbours", "UntouchedHead"]
