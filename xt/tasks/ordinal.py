"""Grades: one class for an image, of several that have an order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, grades
from xt.tasks.classification import Classification
from xt.tasks.label_fields import ClassLabels

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from xt.tasks.answer_evaluation import AnswerEvaluation


@dataclass(frozen=True, kw_only=True)
class OrdinalLabels(ClassLabels):
    """Which grade an image has."""

    class_names: tuple[str, ...] | None = None
    """Grades from the lowest to the highest; may be left out where all are whole numbers."""


class Ordinal(Classification):
    """One of K grades for an image."""

    name = "ordinal"
    Labels: ClassVar[type] = OrdinalLabels
    takes: ClassVar[str | None] = None
    can_mix = False
    columns: ClassVar[tuple[str, ...]] = ()
    metric = "mae"
    metric_of_rare: ClassVar[str | None] = None
    best = "min"
    recipe = "ordinal"

    def label_reader(self, labels: Any) -> ReadLabels:
        return grades

    def leading(self, values: NDArray[np.float64], decisive: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities: what is decisive of a grade is all or nothing."""
        return values

    def cells(self, names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
        """The probabilities, and the expected rank, which counts from 0."""
        return {**super().cells(names, values), "expected_rank": float(values @ np.arange(len(values)))}

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """The mean distance in grades and the share of grades that are right; quadratic kappa is with the others."""
        from torchmetrics.classification import MulticlassAccuracy

        from xt.metrics.ordinal import GradeError

        return {
            "mae": GradeError(sync_on_compute=sync),
            "top1": MulticlassAccuracy(num_outputs, average="micro", sync_on_compute=sync),
        }

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        """That of classes, with the expected rank, which counts from 0."""
        head, *rows = super().table_of(evaluation)
        ranks = evaluation.probabilities @ np.arange(evaluation.probabilities.shape[1])
        return [
            [*head, "expected_rank"],
            *([*row, rank] for row, rank in zip(rows, ranks.tolist(), strict=True)),
        ]
