"""Tasks with one answer about a whole image: what classes, labels and numbers have in common."""

from typing import ClassVar

from xt.tasks.base import Task
from xt.tasks.label_fields import NoSettings


class AnswerTask(Task):
    """One answer an image, pooled over all its tokens."""

    Evaluation: ClassVar[type] = NoSettings
    recipe = "classification"
