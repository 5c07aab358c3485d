"""`data.json` of a run: which images it had, told without any of their names."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from xt.data.splits import Splits
from xt.tasks import task_of

if TYPE_CHECKING:
    from xt.config.run import RunConfig
    from xt.labels.image_table import ImageTable
    from xt.tasks.base import Task


def data_facts(config: "RunConfig", splits: Splits) -> dict[str, Any]:
    """How the images were divided, and of each part how many images, cases, groups and, where the table has them,
    labels of each class it has."""
    task = task_of(config.model.head)
    return {"split": splits.how, "parts": {name: _of(part, task) for name, part in splits.parts.items()}}


def _of(table: "ImageTable", task: "Task") -> dict[str, Any]:
    known: dict[str, Any] = {"images": len(table)}
    if table.cases is not None:
        known["cases"] = len(set(table.cases))
    if table.groups is not None:
        known["groups"] = len(set(table.groups))
    counts: Counter[str] = Counter()
    for _, classes in task.classes_of_rows(table):
        counts.update(classes)
    if counts:
        known["classes"] = {name: counts[name] for name in table.class_names}
    return known
