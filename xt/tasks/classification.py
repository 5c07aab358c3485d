"""One class for an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, classes
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.tasks.answers import AnswerTask
from xt.tasks.certainty import certain_columns
from xt.tasks.label_fields import ClassEvaluation, ClassLabels

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from xt.results.figures import Drawing
    from xt.tasks.answer_evaluation import AnswerEvaluation


@dataclass(frozen=True, kw_only=True)
class ClassificationLabels(ClassLabels):
    """Which class an image is of."""


class Classification(AnswerTask):
    """One of K classes for an image."""

    name = "classification"
    Labels: ClassVar[type] = ClassificationLabels
    Evaluation: ClassVar[type] = ClassEvaluation
    takes: ClassVar[str | None] = "classes"
    can_mix = True
    columns: ClassVar[tuple[str, ...]] = ("label",)
    metric = "top1"
    metric_of_rare: ClassVar[str | None] = "balanced_accuracy"

    def label_reader(self, labels: Any) -> ReadLabels:
        return classes

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """The likeliest class."""
        return names[int(values.argmax())]

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return self.said_of(names, values, values)

    def said_of(
        self, names: Sequence[str], values: NDArray[np.float64], decisive: NDArray[np.float64]
    ) -> list[str]:
        place = int(decisive.argmax())
        return [f"{names[place]} ({values[place]:.1%})"]

    def leading(self, values: NDArray[np.float64], decisive: NDArray[np.float64]) -> NDArray[np.float64]:
        """By which of the two a class leads over the next one."""
        return decisive

    def certainty(
        self,
        values: NDArray[np.float64],
        decisive: NDArray[np.float64],
        spread: NDArray[np.float64] | None = None,
    ) -> dict[str, object]:
        """The probability of the class that is said; in doubt by its lead over the next one."""
        said, sure = int(decisive.argmax()), self.leading(values, decisive)
        lead = float(sure[said] - np.delete(sure, said).max(initial=0.0))
        return certain_columns(values[said], lead, None if spread is None else spread[said])

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """Top-1, top-3 and top-5 (with more than three and five classes) and macro F1, the mean over the classes."""
        from torchmetrics.classification import MulticlassAccuracy

        from xt.metrics.classes import MacroF1, TopAccuracy

        return {
            "top1": MulticlassAccuracy(num_outputs, average="micro", sync_on_compute=sync),
            **{f"top{k}": TopAccuracy(k, sync_on_compute=sync) for k in (3, 5) if num_outputs > k},
            "macro_f1": MacroF1(num_outputs, sync_on_compute=sync),
        }

    def more_measures(self, names: Sequence[str], settings: Any, sync: bool) -> "dict[str, Metric]":
        """Those of `ClassNumbers`, with up to 100 classes."""
        from xt.metrics.answers import MOST_CLASSES, ClassNumbers

        if len(names) > MOST_CLASSES:
            return {}
        return {"numbers": ClassNumbers(names, settings.specificity, sync_on_compute=sync)}

    def class_counts(self, targets: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
        return np.bincount(targets, minlength=num_classes)

    def right(self, evaluation: "AnswerEvaluation") -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = evaluation.decisive.argmax(axis=1) == evaluation.table.targets
        return found

    def drawings(self, evaluation: "AnswerEvaluation") -> "list[Drawing]":
        """ROC, precision and recall, calibration, confusion."""
        from xt.results.confusion import confusion_drawing
        from xt.tasks.class_drawings import MOST_DRAWN, answers_of_classes, curves
        from xt.tasks.class_tables import confusion_of

        names = evaluation.table.class_names
        confusion = [confusion_drawing(confusion_of(evaluation), names)] if len(names) <= MOST_DRAWN else []
        return [*curves(answers_of_classes(evaluation)), *confusion]

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        from xt.tasks.class_tables import predicted_classes

        return predicted_classes(evaluation)

    def write_more(self, evaluation: "AnswerEvaluation", folder: Path) -> None:
        """Which class was taken for which."""
        from xt.tasks.class_tables import write_confusion

        write_confusion(evaluation, folder)

    def check_outputs(self, table: ImageTable) -> None:
        """Refuse fewer than two classes."""
        if len(table.class_names) < 2:
            raise ConfigError(
                f"{table.source} has only one class, {', '.join(table.class_names)}, but a classification needs at "
                "least two: check the labels and labels.label_columns"
            )
