"""Tasks that candidates are judged on: each a sibling of the others, none a special case.

A new task is one file here that defines a `Task`, and one line below.
"""

from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.davis import Davis
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo

TASKS: dict[str, type[Task]] = {"davis": Davis}
"""Every task by the name of its group of options: `--davis ROOT --davis.scale 0.5`."""

__all__ = ["TASKS", "Candidate", "Davis", "Item", "Outcome", "Score", "Sheet", "Task", "TaskInfo"]
