"""Numbers about an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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
    column = "value"
    are_shares = False

    def label_reader(self, labels: Any) -> ReadLabels:
        return measures

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """The numbers, joined by ";"."""
        return ";".join(f"{value:.6g}" for value in values)

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return [f"{name} = {value:.4g}" for name, value in zip(names, values, strict=True)]
