"""Columns of a table that hold the labels themselves: each kind becomes targets once, here.

A class becomes its place in `class_names`, labels that are there or not a row of 0 and 1, numbers a row of numbers.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import TableError
from xt.labels.formats.columns import classes_of, numbers, texts, yes_or_no
from xt.labels.image_table import class_indices, in_short, names_of_labels

Targets = tuple[np.ndarray, tuple[str, ...]]
"""Targets and class names as of `ImageTable`."""
ReadLabels = Callable[[pd.DataFrame, Path, Sequence[str], Sequence[str] | None], Targets]
"""From a table, its path, its label columns and the names of the outputs, if they are known."""


def classes(
    frame: pd.DataFrame, path: Path, columns: Sequence[str], class_names: Sequence[str] | None
) -> Targets:
    """One class in one column."""
    if len(columns) > 1:
        raise TableError(
            f"{path}: classification takes one label column, got {', '.join(columns)}; "
            "for several labels per image set model.head to 'multilabel'"
        )
    labels = filled(classes_of(frame, columns[0]), frame, columns[0], path)
    names = names_of_labels(labels, class_names)
    return class_indices(labels, names, str(path), list(frame.index)), names


def grades(
    frame: pd.DataFrame, path: Path, columns: Sequence[str], class_names: Sequence[str] | None
) -> Targets:
    """One class in one column, of classes that have an order: that of `class_names`, or of whole numbers."""
    targets, names = classes(frame, path, columns, class_names)
    if class_names is None and not all(re.fullmatch(r"-?\d+", name) for name in names):
        raise TableError(
            f"{path}: the order of the grades {in_short(names)} is not known; name them from the lowest to the "
            f"highest in labels.class_names, such as [{', '.join(names[:3])}]"
        )
    return targets, names


def measures(
    frame: pd.DataFrame, path: Path, columns: Sequence[str], class_names: Sequence[str] | None = None
) -> Targets:
    """A number in each column, which are called as the columns are."""
    values = [numbers(frame, column, str(path), gaps=False) for column in columns]
    return np.stack(values, axis=1).astype(np.float32), tuple(columns)


def joined_labels(
    frame: pd.DataFrame,
    path: Path,
    columns: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    separator: str,
) -> Targets:
    """Any number of labels in one column, with a separator between them."""
    sets = [
        [part.strip() for part in text.split(separator) if part.strip()] for text in texts(frame, columns[0])
    ]
    names = names_of_labels((label for labels in sets for label in labels), class_names)
    targets = np.zeros((len(sets), len(names)), np.float32)
    for row, labels in enumerate(sets):
        targets[row, class_indices(labels, names, str(path), [frame.index[row]] * len(labels))] = 1
    return targets, names


def zeros_and_ones(
    frame: pd.DataFrame, path: Path, columns: Sequence[str], class_names: Sequence[str] | None
) -> Targets:
    """A column for each label: whether it is there."""
    names = tuple(class_names or columns)
    if set(names) != set(columns):
        raise TableError(
            f"{path}: the model knows the classes {in_short(names)}, the label columns are {in_short(columns)}; "
            "they must be the same"
        )
    targets = np.stack([_answers(frame, name, path) for name in names], axis=1)
    wrong = np.argwhere((targets != 0) & (targets != 1))
    if len(wrong):
        row, column = wrong[0]
        raise TableError(
            f"{path}: multi-label columns hold 0 or 1, got {targets[row, column]:g} in column "
            f"{names[column]!r}, "
            f"row {frame.index[row]}; for labels in one column set labels.label_separator"
        )
    return targets, names


def filled(found: NDArray[np.object_], frame: pd.DataFrame, column: str, path: Path) -> list[str]:
    """A column's texts, if none is empty."""
    empty = [row for row, text in zip(frame.index, found, strict=True) if not text]
    if empty:
        raise TableError(f"{path}: column {column!r} is empty in {in_rows(empty)}; every image needs a value")
    return list(found)


def in_rows(rows: Sequence[int]) -> str:
    """How a message calls rows of a table."""
    some = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {some} (counted from 0)"


def _answers(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    """Numbers, or True and False in words."""
    words = {word.lower() for word in texts(frame, column)}
    read = yes_or_no if words <= {"true", "false", "yes", "no"} else partial(numbers, gaps=False)
    return read(frame, column, str(path)).astype(np.float32)
