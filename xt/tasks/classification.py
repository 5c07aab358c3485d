"""One class for an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """The likeliest class."""
        return names[int(values.argmax())]

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        name, value = max(zip(names, values, strict=True), key=lambda pair: pair[1])
        return [f"{name} ({value:.1%})"]
