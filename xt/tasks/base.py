"""What a task is: it ties together a head, how its labels are read, what it is measured by and what is written.

Everything outside asks the task and knows no task's name. A task is cheap: it has no state, and what is heavy (torch,
metrics, drawing) is imported where it is used, so that a configuration can be read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.tasks.place_results import PlaceResults


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Which images a table lists, before anything is said of their labels; see `xt.data.table_files.read_table`."""

    path: str | Path
    image_column: str = "image"
    split_column: str = "split"
    root: str | Path | None = None
    rows: Sequence[int] | None = None


class Task(ABC):
    """One kind of answer about images."""

    name: ClassVar[str]
    """Of the task, and of the head that it has by default."""
    Labels: ClassVar[type]
    """Frozen dataclass: which labels there are and where, the section `labels` of a run's configuration."""
    Evaluation: ClassVar[type]
    """Frozen dataclass: how it is measured, the section `evaluation`; may have no fields."""
    takes: ClassVar[str | None] = None
    """Which labels of a source that brings its own are for this task: "classes" (one an image), "points", "boxes";
    every task also takes tables that name its labels."""
    about_places: ClassVar[bool]
    """Whether it answers about every place of an image, or once about the whole of it."""
    metric: ClassVar[str]
    """The metric by which the best epoch is chosen."""
    best: ClassVar[Literal["max", "min"]] = "max"
    """Which value of it is best."""
    recipe: ClassVar[str]
    """Of `xt recipes`, for data of one's own."""
    options: ClassVar[tuple[str, ...]] = ()
    """Those of `xt predict` that mean something to it, besides what all tasks have."""

    @property
    def results(self) -> "type[PlaceResults] | None":
        """What answers about every place become on disk; None of answers about whole images."""
        return None

    def as_taken(self, image: "LargeImage", channels: int) -> "LargeImage":
        """An image as models of this task take it.

        Args:
            channels: of the model.
        """
        return image

    @abstractmethod
    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        """The images that a table lists, with their labels.

        Args:
            labels: a `Labels` of this task, or whatever has its fields.
            class_names: of a model that is there already; they come before those of `labels`.
            model: that the table is for.
        Raises:
            TableError: the table, a column or a file is missing, or a label is not as it should be.
            ConfigError: the settings do not fit the labels.
        """


def class_names(model: "XT") -> tuple[str, ...]:
    """The model's own names, or "0", "1", ... where it has none."""
    given = model.config.class_names
    return tuple(given) if given else tuple(str(number) for number in range(model.config.num_classes))
