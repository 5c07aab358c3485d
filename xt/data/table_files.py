"""Tables of images as people bring them, one row an image: CSV and Parquet files.

A label becomes a target once, here: the class's place in `class_names` (classification), a row of 0 and 1 (multi-label)
or of numbers (regression).
"""

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xt.data.table import ImageTable, check_paths, class_indices, image_path, in_short, names_of_labels
from xt.errors import ConfigError, TableError

TASKS = ("classification", "multilabel", "regression")


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
    base = path.parent if root is None else Path(root)
    paths = tuple(image_path(base, value) for value in _texts(frame, image_column, path))
    targets, names = _targets(frame, path, task, label_columns, label_separator, class_names)
    splits = tuple(_texts(frame, split_column, path)) if split_column in frame else None
    return ImageTable(str(path), paths, targets, names, splits, tuple(frame.index))


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
    base = path.parent if root is None else Path(root)
    return tuple(image_path(base, value) for value in _texts(frame, image_column, path))


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
    base = path.parent if root is None else Path(root)
    labels = tuple(image_path(base, value) for value in _texts(frame, label_column, path))
    check_paths(labels, str(path), f"files in column {label_column!r}")
    return images, labels, tuple(_texts(frame, split_column, path)) if split_column in frame else None


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
        numbers = [_numbers(frame, column, path) for column in label_columns]
        return np.stack(numbers, axis=1), tuple(label_columns)
    if task == "multilabel" and label_separator is None:
        return _zeros_and_ones(frame, label_columns, class_names, path)
    if task == "multilabel":
        sets = [
            [part.strip() for part in text.split(label_separator) if part.strip()]
            for text in _texts(frame, label_columns[0], path, allow_empty=True)
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
    texts = _texts(frame, label_columns[0], path)
    names = names_of_labels(texts, class_names)
    return class_indices(texts, names, str(path), list(frame.index)), names


def _read_frame(path: Path, rows: Sequence[int] | None = None) -> pd.DataFrame:
    frame = _read_whole(path)
    return frame if rows is None else frame.iloc[list(rows)]


def _read_whole(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path}: there is no such table; expected a CSV or Parquet file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return _read_csv(path)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty; expected a first line with the columns' names") from None
    except pd.errors.ParserWarning:
        raise TableError(
            f"{path}: its rows have more fields than its first line has names; is there a comma at their ends, or "
            "one in a file's name without quotes around it?"
        ) from None
    except (ValueError, OSError) as error:
        raise TableError(
            f"{path} is not a readable CSV or Parquet table ({' '.join(str(error).split())})"
        ) from None


def _read_csv(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # As text: a label "007" or "NA" must stay what it is. Without `index_col`, pandas would take the first column
        # for names of the rows, and all others for the one before, where rows have a field more than the first line.
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, sep=separator, index_col=False, skipinitialspace=True
        )
    frame.columns = frame.columns.str.strip()
    if len(frame.columns) == 1 and any(mark in frame.columns[0] for mark in ";\t,"):
        raise TableError(
            f"{path}: its first line, {frame.columns[0]!r}, is one column; columns are separated by commas, in a "
            ".tsv file by tabs"
        )
    return frame


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


def _texts(frame: pd.DataFrame, column: str, path: Path, allow_empty: bool = False) -> list[str]:
    # Parquet may hold whole numbers as floats with gaps (3.0): they are the labels "3".
    values = frame[column]
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    texts = ["" if pd.isna(value) else str(value).strip() for value in values]
    empty = [row for row, text in zip(frame.index, texts, strict=True) if not text]
    if empty and not allow_empty:
        raise TableError(f"{path}: column {column!r} is empty in {_rows(empty)}; every image needs a value")
    return texts


def _numbers(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float32, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise TableError(
            f"{path}: column {column!r} must hold a finite number for every image, got "
            f"{str(frame[column].iloc[wrong[0]])!r} in {_rows(frame.index[wrong].tolist())}"
        )
    return numbers


def _zeros_and_ones(
    frame: pd.DataFrame, columns: Sequence[str], class_names: Sequence[str] | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = tuple(class_names or columns)
    if set(names) != set(columns):
        raise TableError(
            f"{path}: the model knows the classes {in_short(names)}, the label columns are {in_short(columns)}; "
            "they must be the same"
        )
    targets = np.stack([_numbers(frame, name, path) for name in names], axis=1)
    wrong = np.argwhere((targets != 0) & (targets != 1))
    if len(wrong):
        row, column = wrong[0]
        raise TableError(
            f"{path}: multi-label columns hold 0 or 1, got {targets[row, column]:g} in column "
            f"{names[column]!r}, "
            f"row {frame.index[row]}; for labels in one column set data.label_separator"
        )
    return targets, names


def _rows(rows: Sequence[int]) -> str:
    some = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {some} (counted from 0)"
