"""Any of several labels for an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, joined_labels, zeros_and_ones
from xt.errors import ConfigError
from xt.tasks.answers import AnswerTask
from xt.tasks.base import Guess
from xt.tasks.certainty import certain_columns
from xt.tasks.label_fields import ClassEvaluation, ClassLabels

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric, MetricCollection

    from xt.results.figures import Drawing
    from xt.tasks.answer_evaluation import AnswerEvaluation


_SURE = 0.5
_MARKS = (";", "|")


@dataclass(frozen=True, kw_only=True)
class MultiLabelLabels(ClassLabels):
    """Which labels an image has."""

    label_columns: tuple[str, ...] = ("label",)
    """Columns of 0 and 1, one a label; or, with `label_separator`, the one with all labels of an image."""
    label_separator: str | None = None
    """In one column: what stands between two labels of one image, such as ';'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_separator is not None and (not self.label_separator or len(self.label_columns) > 1):
            raise ConfigError(
                "labels.label_separator must be a non-empty text and stands with one label column only, got "
                f"{self.label_separator!r} with columns {', '.join(self.label_columns)}"
            )


class MultiLabel(AnswerTask):
    """Each of K labels is there or not."""

    name = "multilabel"
    Labels: ClassVar[type] = MultiLabelLabels
    Evaluation: ClassVar[type] = ClassEvaluation
    metric = "macro_f1"

    def label_reader(self, labels: Any) -> ReadLabels:
        if labels.label_separator is None:
            return zeros_and_ones
        return partial(joined_labels, separator=labels.label_separator)

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """All labels of at least 0.5, joined by ";"."""
        return ";".join(name for name, value in zip(names, values, strict=True) if value >= _SURE)

    def labelled(self, names: Sequence[str], target: NDArray[Any]) -> str:
        return self.label(names, target)

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return self.said_of(names, values, values)

    def said_of(
        self, names: Sequence[str], values: NDArray[np.float64], decisive: NDArray[np.float64]
    ) -> list[str]:
        parts = zip(names, values, decisive, strict=True)
        return [f"{name} ({value:.1%})" for name, value, moved in parts if moved >= _SURE] or ["no label"]

    def certainty(
        self,
        values: NDArray[np.float64],
        decisive: NDArray[np.float64],
        spread: NDArray[np.float64] | None = None,
    ) -> dict[str, object]:
        """Of the label that is least sure: the probability of what is said of it, that it is there or not."""
        least = int(abs(decisive - _SURE).argmin())
        value = values[least] if decisive[least] >= _SURE else 1 - values[least]
        lead = 2 * float(abs(decisive[least] - _SURE))
        return certain_columns(value, lead, None if spread is None else spread[least])

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """Macro F1 at probability 1/2 (or the head's thresholds), over the labels that there are, and the share of
        images with every label right."""
        from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, MultilabelExactMatch

        from xt.metrics.classes import MacroLabelF1

        if num_outputs == 1:
            # Of one label there is no mean over labels, and torchmetrics refuses to take it.
            return {
                "macro_f1": BinaryF1Score(sync_on_compute=sync),
                "exact_match": BinaryAccuracy(sync_on_compute=sync),
            }
        return {
            "macro_f1": MacroLabelF1(num_outputs, sync_on_compute=sync),
            "exact_match": MultilabelExactMatch(num_outputs, sync_on_compute=sync),
        }

    def metric_targets(self, targets: "Tensor") -> "Tensor":
        """Labels as whole numbers."""
        return targets.long()

    def more_measures(self, names: Sequence[str], settings: Any, sync: bool) -> "dict[str, Metric]":
        """Those of `LabelNumbers`, with up to 100 labels; of more the average precision."""
        from xt.metrics.answers import MOST_CLASSES, LabelNumbers
        from xt.metrics.classes import LabelAveragePrecision

        if len(names) > MOST_CLASSES:
            return {"average_precision": LabelAveragePrecision(len(names), sync_on_compute=sync)}
        return {"numbers": LabelNumbers(names, settings.specificity, sync_on_compute=sync)}

    def class_counts(self, targets: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
        return targets.sum(axis=0).astype(np.int64)

    def right(self, evaluation: "AnswerEvaluation") -> NDArray[np.bool_]:
        """Those with every label right."""
        found: NDArray[np.bool_] = ((evaluation.decisive >= _SURE) == (evaluation.table.targets > 0)).all(
            axis=1
        )
        return found

    def drawings(self, evaluation: "AnswerEvaluation") -> "list[Drawing]":
        """ROC, precision and recall, calibration."""
        from xt.tasks.class_drawings import answers_of_labels, curves

        return curves(answers_of_labels(evaluation))

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        return evaluation.columns("p_")

    def guess_labels(self, num_columns: int, labels: Sequence[str]) -> Guess | None:
        """By several columns, or by a mark between some labels."""
        if num_columns > 1:
            return Guess()
        for mark in _MARKS:
            if any(mark in label for label in labels):
                return Guess(
                    {"label_separator": mark},
                    (f"several labels an image, as there is {mark!r} between some",),
                )
        return None
