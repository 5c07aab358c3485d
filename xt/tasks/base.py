"""What a task is: it ties together a head, how its labels are read, what it is measured by and what is written.

Everything outside asks the task and knows no task's name. A task is cheap: it has no state, and what is heavy (torch,
metrics, drawing) is imported where it is used, so that a configuration can be read without it.
"""

from abc import ABC
from typing import ClassVar, Literal


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
    metric: ClassVar[str]
    """The metric by which the best epoch is chosen."""
    best: ClassVar[Literal["max", "min"]] = "max"
    """Which value of it is best."""
    recipe: ClassVar[str]
    """Of `xt recipes`, for data of one's own."""
