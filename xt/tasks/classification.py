"""One class for an image."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xt.data.label_columns import ReadLabels, classes
from xt.tasks.answers import AnswerTask
from xt.tasks.label_fields import ClassLabels


@dataclass(frozen=True, kw_only=True)
class ClassificationLabels(ClassLabels):
    """Which class an image is of."""


class Classification(AnswerTask):
    """One of K classes for an image."""

    name = "classification"
    Labels: ClassVar[type] = ClassificationLabels
    takes = "classes"
    metric = "top1"

    def label_reader(self, labels: Any) -> ReadLabels:
        return classes
