"""Columns of tables that users bring: names of classes, numbers with gaps, and yes or no with gaps."""

import difflib
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import TableError

Table = pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | os.PathLike[str]

_YES = frozenset(["true", "yes", "1", "1.0", "t"])
_NO = frozenset(["false", "no", "0", "0.0", "f"])
_UNKNOWN = frozenset(["", "nan", "none", "na", "null", "<na>", "nat"])
# A whole number with a point behind it, as text.
_WHOLE = re.compile(r"^(-?(?:0|[1-9]\d*))\.0*$")


def as_frame(table: Table, name: str) -> tuple[pd.DataFrame, str]:
    """A table however it comes (DataFrame, columns, rows, the path of a CSV file), and what to call it in messages.

    Args:
        name: what it is called where it has no path.
    Raises:
        TableError: there is no such file, or it is not a CSV file, or the columns differ in length.
    """
    if isinstance(table, pd.DataFrame):
        return table, name
    if isinstance(table, str | os.PathLike):
        return _read(Path(table)), str(table)
    try:
        return pd.DataFrame(dict(table) if isinstance(table, Mapping) else list(table)), name
    except (ValueError, TypeError) as error:
        raise TableError(f"{name} cannot be made a table: {error}") from None


def require(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Refuse a table that lacks one of these columns; one without rows and columns passes.

    Raises:
        TableError: names the first that is missing, what there is, and the nearest.
    """
    if not len(frame) and not len(frame.columns):
        return
    for column in columns:
        if column not in frame:
            there = [str(name) for name in frame.columns]
            near = difflib.get_close_matches(column, there, n=1)
            raise TableError(
                f"{source} has no column {column!r}; its columns are {', '.join(there)}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )


def class_name(value: Any) -> str:
    """What a class is called that a file gives as text or as a number; "" where it gives none.

    1, 1.0, "1" and "1.0" are one class, "1", wherever they stand: pandas makes 1.0 of 1 in a column with gaps. "007"
    and "1.5" are what they are.
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    # NumPy's numbers, too, and those that its arrays of objects hold.
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    # One letter may be written as two code points, as in names of folders made on a Mac.
    text = unicodedata.normalize("NFC", str(value).strip().strip("\ufeff").strip())
    return _WHOLE.sub(r"\1", text)


def texts(frame: pd.DataFrame, column: str) -> NDArray[np.object_]:
    """The column as text without blanks around it, "" where it is empty or missing."""
    if column not in frame:
        return np.full(len(frame), "", object)
    return np.array(["" if pd.isna(value) else str(value).strip() for value in frame[column]], object)


def class_names(frame: pd.DataFrame, column: str) -> NDArray[np.object_]:
    """The column as names of classes, see `class_name`."""
    return np.array([class_name(value) for value in frame[column]], object)


def numbers(frame: pd.DataFrame, column: str, source: str, *, gaps: bool = True) -> NDArray[np.float64]:
    """The column as numbers; NaN where it is empty or missing.

    Raises:
        TableError: an entry is not a number; or, without `gaps`, is empty or not finite.
    """
    if column not in frame:
        return np.full(len(frame), np.nan)
    given = frame[column]
    values = pd.to_numeric(given, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    unknown = np.array([str(value).strip().lower() in _UNKNOWN for value in given], bool)
    wrong = np.isnan(values) & ~unknown
    if not gaps:
        wrong |= ~np.isfinite(values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TableError(
            f"{source}: column {column!r} must hold {'a number' if gaps else 'a finite number'} in every row, got "
            f"{_shown(given.iloc[row])} in row {row} (counted from 0)"
        )
    return values


def yes_or_no(frame: pd.DataFrame, column: str, source: str) -> NDArray[np.float64]:
    """The column as 1 (True, yes, 1) and 0 (False, no, 0); NaN where it is empty or missing.

    Raises:
        TableError: an entry is anything else.
    """
    words = [word.lower() for word in texts(frame, column)]
    for row, word in enumerate(words):
        if word not in _YES and word not in _NO and word not in _UNKNOWN:
            raise TableError(
                f"{source}: column {column!r} must hold True, False or nothing, got "
                f"{_shown(frame[column].iloc[row])} in row {row} (counted from 0)"
            )
    return np.array([1.0 if word in _YES else 0.0 if word in _NO else np.nan for word in words], np.float64)


def _shown(value: Any) -> str:
    return "nothing" if pd.isna(value) or not str(value).strip() else repr(str(value))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path}: there is no such table; expected a CSV file")
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty; expected a first line with the columns' names") from None
    except (ValueError, OSError) as error:
        raise TableError(f"{path} is not a readable CSV table ({' '.join(str(error).split())})") from None
