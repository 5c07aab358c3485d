"""Tables of images as people bring them, one row an image: CSV and Parquet files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xt.data.grouping import warn_of_spellings
from xt.data.label_columns import ReadLabels, classes, filled, in_rows
from xt.errors import TableError
from xt.images import stack_parts
from xt.labels.formats.columns import classes_of, is_unknown, numbers, read_frame, texts
from xt.labels.image_table import (
    ImageTable,
    check_paths,
    image_path,
    in_short,
)
from xt.registry import nearest

MICRONS_COLUMN = "microns_per_pixel"


def read_table(
    path: str | Path,
    *,
    labels: ReadLabels = classes,
    image_column: str = "image",
    label_columns: Sequence[str] = ("label",),
    class_names: Sequence[str] | None = None,
    split_column: str = "split",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a CSV or Parquet file with one row per image; files joined by "|" are one image, see `xt.stack`.

    Args:
        labels: how the label columns are read, see `xt.data.label_columns`.
        class_names: labels in the order of the outputs; without it, the sorted labels of the table (by value
            if all are whole numbers).
        split_column: may be absent only if it is called `split`; then `splits` is None.
        root: where relative paths start; without it, the table's folder.
        rows: read these alone, as if there were no others; their numbers in messages are those in the file.
    Raises:
        TableError: the file, a column or a label is missing or unknown.
    """
    path = Path(path)
    frame = _read_frame(path, rows)
    needed = [image_column, *label_columns] + ([split_column] if split_column != "split" else [])
    for column in needed:
        _check_column(frame, column, path)
    if frame.empty:
        raise TableError(f"{path} has no rows; expected one row per image")
    paths = _paths(frame, image_column, path, root)
    targets, names = labels(frame, path, label_columns, class_names)
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
            f"got {found[wrong[0]]:g} in {in_rows([frame.index[wrong[0]]])}"
        )
    return tuple(None if np.isnan(value) else float(value) for value in found)


def read_groups(path: str | Path, column: str, rows: Sequence[int] | None = None) -> tuple[str, ...]:
    """What each image of a table belongs to: a patient, a site.

    Args:
        rows: as of `read_table`.
    Raises:
        TableError: the column is missing, or empty in a row: an image whose group nobody knows cannot be kept with it.
    """
    path = Path(path)
    frame = _read_frame(path, rows)
    _check_column(frame, column, path)
    found = classes_of(frame, column)
    empty = [row for row, word in zip(frame.index, found, strict=True) if is_unknown(word)]
    if empty:
        raise TableError(
            f"{path}: column {column!r} says no group in {in_rows(empty)}, so that such an image could be learned from "
            "and measured by; give it its group, or a name of its own if it belongs with no other"
        )
    groups = tuple(found)
    warn_of_spellings(groups, str(path))
    return groups


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


def _read_frame(path: Path, rows: Sequence[int] | None = None) -> pd.DataFrame:
    frame = read_frame(path)
    return frame if rows is None else frame.iloc[list(rows)]


def _check_column(frame: pd.DataFrame, column: str, path: Path) -> None:
    if column in frame:
        return
    columns = [str(name) for name in frame.columns]
    raise TableError(
        f"{path} has no column {column!r}{nearest(column, columns)}; its columns are {in_short(columns)}; which "
        "columns are read is set by data.image_column and the settings beside it"
    )


def _paths(frame: pd.DataFrame, column: str, path: Path, root: str | Path | None) -> tuple[Path, ...]:
    base = path.parent if root is None else Path(root)
    return tuple(image_path(base, value) for value in filled(texts(frame, column), frame, column, path))


def _splits(frame: pd.DataFrame, column: str, path: Path) -> tuple[str, ...] | None:
    return tuple(filled(classes_of(frame, column), frame, column, path)) if column in frame else None
