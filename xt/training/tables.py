"""The table that a configuration names, in its three parts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xt.data.augmentation import Augmentation
from xt.data.case_table import check_cases, check_whole_cases
from xt.data.feature_folder import features_at
from xt.data.folds import Fold
from xt.data.grouping import warn_of_unused
from xt.data.sources import Source, TableSource
from xt.data.splits import Splits, warn_of_doubles, warn_of_parted
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.model.config import ModelConfig
from xt.tasks import TASKS, Task, task_of
from xt.tasks.base import TableRows

_GIVES = {"classes": "gives one class per image", "boxes": "has boxes", "points": "is labelled with points"}


def load_table(
    data: Source,
    labels: Any,
    model: ModelConfig,
    class_names: Sequence[str] | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """The images of a source with the labels that a model is for.

    Args:
        labels: the `Labels` of the model's task.
        class_names: of a model that is there already; they come before those of `labels`.
        rows: of a table, these alone; see `read_table`.
    """
    task = task_of(model.head)
    names = None if class_names is None else tuple(class_names)
    _check_meant(data, task, model.head)
    if not isinstance(data, TableSource):
        if data.gives is not None and data.gives != task.takes:
            raise ConfigError(_other_labels(data, model.head))
        return data.read(names or labels.class_names)
    listed = TableRows(
        path=data.table,
        image_column=data.image_column,
        split_column=data.split_column,
        root=data.root,
        rows=rows,
    )
    table = task.read_table(listed, labels, class_names=names, model=model)
    table = replace(
        table, microns_per_pixel=data.microns(rows), groups=data.groups(rows), cases=data.cases(rows)
    )
    check_cases(table)
    return table


def _other_labels(data: Source, head: str) -> str:
    fitting = [name for name, task in TASKS.items() if task.takes == data.gives]
    return (
        f"data.{data.kind} {_GIVES[data.gives or '']}, but model.head is {head!r}; set it to "
        f"{' or '.join(map(repr, fitting))}, or give other labels by data.table"
    )


def _check_meant(data: Source, task: Task, head: str) -> None:
    """Refuse settings of augmentation and views that the task has no use for."""
    usual = Augmentation()
    fitting = [name for name, other in TASKS.items() if other.about_places]
    for name in ("label_centred", "windows"):
        if not task.about_places and getattr(data.augmentation, name) != getattr(usual, name):
            raise ConfigError(
                f"data.augmentation.{name} is for the heads {', '.join(fitting)}, but model.head is {head!r}; leave it "
                "out"
            )
    if task.about_places and data.has_cases:
        raise ConfigError(
            f"model.head {head!r} answers about every place of each image: leave out data.case_column"
        )
    if task.about_places and (data.encoded is not None or data.view != "whole"):
        raise ConfigError(
            f"model.head {head!r} takes whole images with their pixels: leave out data.tokens, data.features and "
            "data.view"
        )


def load_images(
    data: Source, labels: Any, model: ModelConfig, class_names: Sequence[str] | None = None
) -> ImageTable:
    """All images that a run is about, of features those that have some; arguments as of `load_table`."""
    table = load_table(data, labels, model, class_names)
    return table if data.encoded is None else features_at(data.encoded).of_table(table)


def load_splits(
    data: Source,
    labels: Any,
    model: ModelConfig,
    class_names: Sequence[str] | None = None,
    fold: Fold | None = None,
) -> Splits:
    """The table's three parts, all their files being there; arguments else as of `load_table`.

    Args:
        fold: which is held out for testing; None where the table itself or chance divides once.
    """
    table = load_images(data, labels, model, class_names)
    splits = data.divide(table) if fold is None else data.hold_out(table, fold)
    check_whole_cases(splits.parts)
    warn_of_doubles(splits)
    if fold is None:
        # Of folds it is said once of all.
        warn_of_parted(splits)
        warn_of_unused(splits.parts, data.likely_groups())
    parts = splits.parts.values()
    if data.encoded is not None:
        features_at(data.encoded).check_images([path for part in parts for path in part.paths], table.source)
        return splits
    for part in parts:
        part.check_files()
    return splits
