"""Numbers about an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, measures
from xt.tasks.answers import AnswerTask
from xt.tasks.base import Guess
from xt.tasks.label_fields import ClassLabels

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from xt.tasks.answer_evaluation import AnswerEvaluation


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
    has_classes = False
    column = "value"
    are_shares = False

    def label_reader(self, labels: Any) -> ReadLabels:
        return measures

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """The numbers, joined by ";"."""
        return ";".join(f"{value:.6g}" for value in values)

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return [f"{name} = {value:.4g}" for name, value in zip(names, values, strict=True)]

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """Root mean squared and mean absolute error over all numbers."""
        from torchmetrics import MeanAbsoluteError, MeanSquaredError

        return {
            "rmse": MeanSquaredError(squared=False, sync_on_compute=sync),
            "mae": MeanAbsoluteError(sync_on_compute=sync),
        }

    def class_counts(self, targets: NDArray[Any], num_classes: int) -> None:
        return None

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        return evaluation.columns("value_")

    def guess_labels(self, num_columns: int, labels: Sequence[str]) -> Guess | None:
        """By numbers that are not whole."""
        return Guess(told=("numbers, as the labels are not whole",)) if _are_measures(labels) else None


def _are_measures(labels: Sequence[str]) -> bool:
    try:
        return any(not float(label).is_integer() for label in labels if label)
    except (ValueError, OverflowError):
        return False
