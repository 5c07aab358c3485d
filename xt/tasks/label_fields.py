"""What configurations of labels have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xt.errors import ConfigError
from xt.labels.formats.columns import class_name
from xt.option_types import in_range


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """Labels that are classes, or columns that have names."""

    label_columns: tuple[str, ...] = ("label",)
    """Column of the label."""
    class_names: tuple[str, ...] | None = None
    """Classes in the order of the model's outputs; without it, the sorted labels."""

    def __post_init__(self) -> None:
        if not self.label_columns:
            raise ConfigError("labels.label_columns must name at least one column")
        if self.class_names is None:
            return
        names = [class_name(name) for name in self.class_names]
        if "" in names:
            raise ConfigError(f"labels.class_names must not be empty, got {self.class_names}")
        if len(set(names)) != len(names):
            raise ConfigError(f"labels.class_names must be different from each other, got {self.class_names}")


@dataclass(frozen=True, kw_only=True)
class FileLabels(ClassLabels):
    """Labels in files of their own, each named in a row of a table."""

    label_columns: tuple[str, ...] = field(default=("label",))
    """The property or column of those files that holds the class, where it is not called `class` or `label`."""
    layer: str | None = None
    """Which layer of files that have several, such as GeoPackages; a column of this name in the table says it for a
    row."""


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """How classes and labels of whole images are measured."""

    specificity: float = 0.95
    """The specificity at which `sensitivity_at_specificity` is given, in (0, 1)."""

    def __post_init__(self) -> None:
        in_range("evaluation.specificity", self.specificity, 0, 1, lower_open=True, upper_open=True)


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """Of metrics that need none."""


def class_column(label_columns: Sequence[str]) -> str | None:
    """Which property or column of a file of labels holds the class; None for the usual ones."""
    usual = ClassLabels.__dataclass_fields__["label_columns"].default
    return None if tuple(label_columns) == usual else label_columns[0]
