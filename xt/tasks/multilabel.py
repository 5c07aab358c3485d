"""Any of several labels for an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, joined_labels, zeros_and_ones
from xt.errors import ConfigError
from xt.tasks.answers import AnswerTask
from xt.tasks.label_fields import ClassLabels

_SURE = 0.5


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
    metric = "macro_f1"

    def label_reader(self, labels: Any) -> ReadLabels:
        if labels.label_separator is None:
            return zeros_and_ones
        return partial(joined_labels, separator=labels.label_separator)

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """All labels of at least 0.5, joined by ";"."""
        return ";".join(name for name, value in zip(names, values, strict=True) if value >= _SURE)

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        pairs = zip(names, values, strict=True)
        return [f"{name} ({value:.1%})" for name, value in pairs if value >= _SURE] or ["no label"]
