"""Tasks with answers about every place of an image: what masks, points and boxes have in common."""

from typing import Any

from xt.tasks.base import TableRows, Task
from xt.tasks.label_fields import class_column


class PlaceTask(Task):
    """Answers about every place, decoded region by region; their labels are files of their own beside the images."""

    about_places = True


def columns(table: TableRows, labels: Any) -> dict[str, Any]:
    """What the readers of `xt.data.dense_table` are told alike."""
    return {
        "path": table.path,
        "image_column": table.image_column,
        "split_column": table.split_column,
        "root": table.root,
        "rows": table.rows,
        "layer": labels.layer,
        "class_column": class_column(labels.label_columns),
    }
