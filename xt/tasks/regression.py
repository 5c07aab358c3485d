"""Numbers about an image."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xt.data.label_columns import ReadLabels, measures
from xt.tasks.answers import AnswerTask
from xt.tasks.label_fields import ClassLabels


@dataclass(frozen=True, kw_only=True)
class RegressionLabels(ClassLabels):
    """Which numbers are known of an image."""

    label_columns: tuple[str, ...] = ("label",)
    """Columns of the numbers, one for each."""


class Regression(AnswerTask):
    """K numbers about an image."""

    name = "regression"
    Labels: ClassVar[type] = RegressionLabels
    metric = "rmse"
    best = "min"

    def label_reader(self, labels: Any) -> ReadLabels:
        return measures
