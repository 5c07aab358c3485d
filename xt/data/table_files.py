"""Tables of images as people bring them, one row an image: CSV and Parquet files.

A label becomes a target once, here: the class's place in `class_names` (classification), a row of 0 and 1 (multi-label)
or of numbers (regression).
"""

import difflib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import ConfigError, TableError
from xt.images import stack_parts
from xt.labels.formats.columns import classes_of, numbers, read_frame, texts, yes_or_no
from xt.labels.image_table import (
    ImageTable,
    check_paths,
    class_indices,
    image_path,
    in_short,
    names_of_labels,
)

TASKS = ("classification", "multilabel", "regression")
MICRONS_COLUMN = "microns_per_pixel"


def read_table(
    path: str | Path,
    *,
    task: str = "classification",
    image_column: str = "image",
    label_columns: Sequence[str] = ("label",),
    label_separator: str | None = None,
    class_names: Sequence[str] | None = None,
    split_column: str = "split",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a CSV or Parquet file with one row per image; files joined by "|" are one image, see `xt.stack`.

    Args:
        task: classification, multilabel or regression.
        class_names: labels in the order of the outputs; without it, the sorted labels of the table (by value
            if all are whole numbers).
        split_column: may be absent only if it is called `split`; then `splits` is None.
        root: where relative paths start; without it, the table's folder.
        rows: read these alone, as if there were no others; their numbers in messages are those in the file.
    Raises:
        TableError: the file, a column or a label is missing or unknown.
    """
    path = Path(path)
    if task not in TASKS:
        raise ConfigError(f"label columns give targets for {', '.join(TASKS)}, not for {task!r}")
    frame = _read_frame(path, rows)
    needed = [image_column, *label_columns] + ([split_column] if split_column != "split" else [])
    for column in needed:
        _check_column(frame, column, path)
    if frame.empty:
        raise TableError(f"{path} has no rows; expected one row per image")
    paths = _paths(frame, image_column, path, root)
    targets, names = _targets(frame, path, task, label_columns, label_separator, class_names)
    splits = _splits(frame, split_column, path)
    return ImageTable(str(path), paths, targets, names, splits, tuple(frame.index))


def read_columns(path: str | Path) -> dict[str, list[str]]:
    """All of a CSV or Parquet file as text, by the columns' names.

    Raises:
        TableError: the file is missing or no table.
    """
    path = Path(path)
    frame = _read_frame(path)
    return {str(column): list(texts(frame, str(column))) for column in frame}


def read_image_paths(
    path: str | Path,
    image_column: str = "image",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> tuple[Path, ...]:
    """The image paths alone of a CSV or Parquet file, as `read_table` finds them.

    Raises:
        TableError: the file or the column is missing, or there are no rows.
    """
    path = Path(path)
    frame = _read_frame(path, rows)
    _check_column(frame, image_column, path)
    if frame.empty:
        raise TableError(f"{path} has no rows; expected one row per image")
    return _paths(frame, image_column, path, root)


def read_paths(
    path: str | Path,
    image_column: str,
    label_column: str,
    split_column: str,
    root: str | Path | None,
    rows: Sequence[int] | None = None,
) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[str, ...] | None]:
    """The paths of images and of the files with their labels, and the splits' names if the table says, from a CSV or
    Parquet file; all else as in `read_table`.

    Raises:
        TableError: the table, a column or a file with labels is missing, or there are no rows.
    """
    images = read_image_paths(path, image_column, root, rows)
    path = Path(path)
    frame = _read_frame(path, rows)
    for column in [label_column] + ([split_column] if split_column != "split" else []):
        _check_column(frame, column, path)
    labels = _paths(frame, label_column, path, root)
    joined = [row for row, label in zip(frame.index, labels, strict=True) if len(stack_parts(str(label))) > 1]
    if joined:
        raise TableError(
            f"{path}: row {joined[0]} names several files in column {label_column!r}; only images are put together, "
            "labels are one file"
        )
    check_paths(labels, str(path), f"files in column {label_column!r}")
    return images, labels, _splits(frame, split_column, path)


def read_microns(
    path: str | Path, column: str = MICRONS_COLUMN, rows: Sequence[int] | None = None
) -> tuple[float | None, ...] | None:
    """The resolution of each image in a table, in micrometres; None where a row's is empty, or the table has no such
    column (which only one of the usual name may lack).

    Args:
        rows: as of `read_table`.
    Raises:
        TableError: the column is missing, or an entry is not a positive number.
    """
    path = Path(path)
    frame = _read_frame(path, rows)
    if column not in frame and column == MICRONS_COLUMN:
        return None
    _check_column(frame, column, path)
    found = numbers(frame, column, str(path))
    wrong = np.flatnonzero(~np.isnan(found) & ~((found > 0) & np.isfinite(found)))
    if len(wrong):
        raise TableError(
            f"{path}: column {column!r} must hold a positive number of micrometres, or nothing where the file says it, "
            f"got {found[wrong[0]]:g} in {_rows([frame.index[wrong[0]]])}"
        )
    return tuple(None if np.isnan(value) else float(value) for value in found)


def has_column(path: str | Path, column: str) -> bool:
    """Whether a CSV or Parquet file has a column."""
    return column in _read_frame(Path(path))


def read_words(
    path: str | Path, column: str, count: int, rows: Sequence[int] | None = None
) -> tuple[str | None, ...]:
    """What a column that may be absent says of each image, from a CSV or Parquet file; None where it says nothing.

    Args:
        count: of the images, all of which it then says nothing of.
    """
    frame = _read_frame(Path(path), rows)
    if column not in frame:
        return (None,) * count
    return tuple(word or None for word in classes_of(frame, column))


def _targets(
    frame: pd.DataFrame,
    path: Path,
    task: str,
    label_columns: Sequence[str],
    label_separator: str | None,
    class_names: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Targets and class names as of `ImageTable`; arguments as of `read_table`."""
    if task == "regression":
        columns = [numbers(frame, column, str(path), gaps=False) for column in label_columns]
        return np.stack(columns, axis=1).astype(np.float32), tuple(label_columns)
    if task == "multilabel" and label_separator is None:
        return _zeros_and_ones(frame, label_columns, class_names, path)
    if task == "multilabel":
        sets = [
            [part.strip() for part in text.split(label_separator) if part.strip()]
            for text in texts(frame, label_columns[0])
        ]
        names = names_of_labels((label for labels in sets for label in labels), class_names)
        targets = np.zeros((len(sets), len(names)), np.float32)
        for row, labels in enumerate(sets):
            targets[row, class_indices(labels, names, str(path), [frame.index[row]] * len(labels))] = 1
        return targets, names
    if len(label_columns) > 1:
        raise TableError(
            f"{path}: classification takes one label column, got {', '.join(label_columns)}; "
            "for several labels per image set model.head to 'multilabel'"
        )
    labels = _filled(classes_of(frame, label_columns[0]), frame, label_columns[0], path)
    names = names_of_labels(labels, class_names)
    return class_indices(labels, names, str(path), list(frame.index)), names


def _read_frame(path: Path, rows: Sequence[int] | None = None) -> pd.DataFrame:
    frame = read_frame(path)
    return frame if rows is None else frame.iloc[list(rows)]


def _check_column(frame: pd.DataFrame, column: str, path: Path) -> None:
    if column in frame:
        return
    columns = [str(name) for name in frame.columns]
    near = difflib.get_close_matches(column.lower(), [name.lower() for name in columns], n=1, cutoff=0.5)
    guess = next((name for name in columns if near and name.lower() == near[0]), None)
    raise TableError(
        f"{path} has no column {column!r}; its columns are {in_short(columns)}"
        + (f"; did you mean {guess!r}?" if guess else ";")
        + " which columns are read is set by data.image_column and the settings beside it"
    )


def _paths(frame: pd.DataFrame, column: str, path: Path, root: str | Path | None) -> tuple[Path, ...]:
    base = path.parent if root is None else Path(root)
    return tuple(image_path(base, value) for value in _filled(texts(frame, column), frame, column, path))


def _splits(frame: pd.DataFrame, column: str, path: Path) -> tuple[str, ...] | None:
    return tuple(_filled(classes_of(frame, column), frame, column, path)) if column in frame else None


def _filled(found: NDArray[np.object_], frame: pd.DataFrame, column: str, path: Path) -> list[str]:
    """A column's texts, if none is empty."""
    empty = [row for row, text in zip(frame.index, found, strict=True) if not text]
    if empty:
        raise TableError(f"{path}: column {column!r} is empty in {_rows(empty)}; every image needs a value")
    return list(found)


def _zeros_and_ones(
    frame: pd.DataFrame, columns: Sequence[str], class_names: Sequence[str] | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
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
            f"row {frame.index[row]}; for labels in one column set data.label_separator"
        )
    return targets, names


def _answers(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    """Numbers, or True and False in words."""
    words = {word.lower() for word in texts(frame, column)}
    read = yes_or_no if words <= {"true", "false", "yes", "no"} else partial(numbers, gaps=False)
    return read(frame, column, str(path)).astype(np.float32)


def _rows(rows: Sequence[int]) -> str:
    some = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {some} (counted from 0)"
