"""Tasks: one file each ties together labels, head, metrics, written results and pictures; everything else asks them."""

from xt.errors import ConfigError
from xt.registry import nearest
from xt.tasks.base import Task
from xt.tasks.classification import Classification
from xt.tasks.detection import Detection
from xt.tasks.multilabel import MultiLabel
from xt.tasks.points import Points
from xt.tasks.regression import Regression
from xt.tasks.segmentation import Segmentation

TASKS: dict[str, Task] = {
    task.name: task
    for task in (Classification(), MultiLabel(), Regression(), Segmentation(), Points(), Detection())
}


def task_of(head: str) -> Task:
    """The task that the head of this name serves, see `Head.task`.

    Raises:
        ConfigError: there is no such head, or it serves a task that there is not.
    """
    from xt.heads import DENSE_HEADS, HEADS

    heads = {**HEADS, **DENSE_HEADS}
    if head not in heads:
        raise ConfigError(f"unknown model.head {head!r}{nearest(head, heads)}; there are {', '.join(heads)}")
    served = heads[head].task
    if served not in TASKS:
        raise ConfigError(
            f"the head {head!r} serves a task {served!r}, which there is not; there are {', '.join(TASKS)}"
        )
    return TASKS[served]


def tasks_by_option() -> dict[str, list[str]]:
    """Each option of `xt predict` that is not for all tasks, with the names of those that it is for."""
    found: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        for option in task.options:
            found.setdefault(option, []).append(name)
    return found


__all__ = ["TASKS", "Task", "task_of", "tasks_by_option"]
