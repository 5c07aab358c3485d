"""Numbers about an image."""

from dataclasses import dataclass
from typing import ClassVar

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
