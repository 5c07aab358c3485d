"""What a table of labels says of each image: its answer, or layers of the objects and masks in its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xt.checking.assumptions import assume
from xt.errors import ConfigError
from xt.images import LargeImage
from xt.labels.image_table import ImageTable
from xt.prediction.inputs import identity
from xt.results.shown import Shown
from xt.tasks import TASKS, Task
from xt.tasks.base import TableRows


class Labels:
    """A table and the task that it is for.

    Attributes:
        path: of the table.
        task: whose labels they are.
        table: the images and their targets.
    """

    def __init__(self, path: Path, task: Task, table: ImageTable) -> None:
        self.path, self.task, self.table = path, task, table
        self._place = {identity(str(image)): place for place, image in enumerate(table.paths)}

    @property
    def images(self) -> list[str]:
        return [str(path) for path in self.table.paths]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.table.class_names

    def has(self, image: str) -> bool:
        return identity(image) in self._place

    def said(self, image: str) -> str:
        """The label of a whole image as the table says it; "" where it says none."""
        place = self._place.get(identity(image))
        if place is None or self.task.about_places:
            return ""
        task: Any = self.task
        return str(task.labelled(self.table.class_names, self.table.targets[place]))

    def given(self, image: str) -> int | None:
        """How many objects its file holds; None where that is not known, or there is none."""
        place = self._place.get(identity(image))
        target = None if place is None else self.task.label_files(self.table)[place]
        return None if target is None else target.given

    def split(self, image: str) -> str:
        """To which part of the images it belongs; "" where the table does not say."""
        place = self._place.get(identity(image))
        return "" if place is None or self.table.splits is None else self.table.splits[place]

    def shown(self, image: str, opened: LargeImage) -> list[Shown]:
        """The labels that lie on an image.

        Raises:
            XTError: they are not of this image, or cannot be read.
        """
        place = self._place.get(identity(image))
        target = None if place is None else self.task.label_files(self.table)[place]
        if target is None:
            return []
        return self.task.shown_labels(target, opened, self.table.class_names)


def read_labels(
    path: str | Path,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    settings: Any = None,
    answers: tuple[Task | None, Sequence[str]] = (None, ()),
) -> Labels:
    """The labels of a table.

    Args:
        task: the name of the one that they are for; None for what its columns say.
        class_names: of a model, in its order.
        settings: as of the section `labels` of its run; None for the usual ones, or without a task those that
            `xt check` would assume.
        answers: the task and classes of answers to the same images, whose names masks of numbers get.
    Raises:
        TableError: the table or a label is not as it should be.
        ConfigError: nobody can say which task it is for.
    """
    path = Path(path)
    chosen = task
    if chosen is None:
        assumed = assume(str(path))
        chosen, settings = assumed.task, assumed.config.labels if settings is None else settings
    if chosen is None or chosen not in TASKS:
        raise ConfigError(
            f"{path} does not say what its labels are: it needs a column such as label, mask, polygons, points or boxes"
        )
    serving = TASKS[chosen]
    settings = serving.Labels() if settings is None else settings
    if task is None and class_names is None and answers[0] is serving:
        class_names = _named_alike(settings, answers[1])
    table = serving.read_table(TableRows(path=path), settings, class_names=class_names)
    return Labels(path, serving, table)


def _named_alike(settings: Any, names: Sequence[str]) -> Sequence[str] | None:
    """Names for classes that were guessed from the numbers in masks; None where these fit no better."""
    guessed = settings.class_names or ()
    if not guessed or len(names) < len(guessed):
        return None
    return names if len(names) == len(guessed) or settings.mask_values is None else None
