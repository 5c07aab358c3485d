"""Tasks: one file each ties together labels, head, metrics, written results and pictures; everything else asks them."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from xt.errors import ConfigError
from xt.registry import Registry
from xt.tasks.base import Evaluated, Task
from xt.tasks.classification import Classification
from xt.tasks.detection import Detection
from xt.tasks.multilabel import MultiLabel
from xt.tasks.multitask import MultiTask
from xt.tasks.ordinal import Ordinal
from xt.tasks.points import Points
from xt.tasks.regression import Regression
from xt.tasks.segmentation import Segmentation
from xt.tasks.several_answers import KINDS
from xt.tasks.survival import Survival

if TYPE_CHECKING:
    from xt.data.dataset import Reading
    from xt.labels.image_table import ImageTable
    from xt.model.xt import XT


def _task(part: Any) -> Task:
    if not (isinstance(part, type) and issubclass(part, Task)):
        raise ConfigError(f"a task is a class derived from xt.tasks.Task, not {part!r}")
    return part()


TASKS: Registry[Task] = Registry(
    "tasks",
    {
        task.name: task
        for task in (
            Classification(),
            MultiLabel(),
            Regression(),
            Ordinal(),
            Survival(),
            MultiTask(),
            Segmentation(),
            Points(),
            Detection(),
        )
    },
    _task,
)

KINDS.tasks = TASKS


def task_of(head: str) -> Task:
    """The task that the head of this name serves, see `Head.task`.

    Raises:
        ConfigError: there is no such head, or it serves a task that there is not.
    """
    if head in TASKS:
        # The head that a task has by default is called as it is: no need of PyTorch, which the heads bring.
        return TASKS[head]
    from xt.heads import HEADS

    if head not in HEADS:
        raise HEADS.unknown(head)
    served = HEADS[head].task
    if served not in TASKS:
        raise ConfigError(
            f"the head {head!r} serves a task {served!r}, which there is not; there are {', '.join(TASKS)}"
        )
    return TASKS[served]


def evaluate(
    model: "XT", table: "ImageTable", reading: "Reading", settings: Any = None, **others: Any
) -> Evaluated:
    """Measure a model on a table's images by the metrics of its task; args as of `Task.evaluate`."""
    return TASKS[model.head.task].evaluate(model, table, reading, settings, **others)


def tasks_by_option() -> dict[str, list[str]]:
    """Each option of `xt predict` that is not for all tasks, with the names of those that it is for."""
    found: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        for option in task.options:
            found.setdefault(option, []).append(name)
    return found


def settings_of_tasks(section: Literal["Labels", "Evaluation"]) -> dict[str, list[str]]:
    """Each field of this class of the tasks, with the names of those that have it."""
    found: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        for entry in fields(getattr(task, section)):
            found.setdefault(entry.name, []).append(name)
    return found


__all__ = ["TASKS", "Task", "evaluate", "settings_of_tasks", "task_of", "tasks_by_option"]
