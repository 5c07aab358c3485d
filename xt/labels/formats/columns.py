"""Columns of tables that users bring: names of classes, numbers with gaps, and yes or no with gaps."""

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
from xt.labels.formats.csv_files import read_csv
from xt.labels.formats.suffixes import PARQUET
from xt.registry import nearest

Table = pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | os.PathLike[str]

_YES = frozenset(["true", "yes", "1", "1.0", "t"])
_NO = frozenset(["false", "no", "0", "0.0", "f"])
_UNKNOWN = frozenset(["", "nan", "none", "na", "null", "<na>", "nat"])
# With one comma; what may as well be thousands.
_COMMA = re.compile(r"^[+-]?\d+,\d+([eE][+-]?\d+)?$")
_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2},\d{3}$")
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
        return read_frame(table), str(table)
    try:
        return pd.DataFrame(dict(table) if isinstance(table, Mapping) else list(table)), name
    except (ValueError, TypeError) as error:
        raise TableError(f"{name} cannot be made a table: {error}") from None


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A CSV (see `read_csv`: all as text) or Parquet file.

    Raises:
        TableError: there is no such file, or it is none of these.
    """
    path = Path(path)
    if path.suffix.lower() not in PARQUET:
        return read_csv(path)
    if not path.is_file():
        raise TableError(f"{path}: there is no such table; expected a CSV or Parquet file")
    import pyarrow.parquet

    try:
        # Else texts that are none come out where they are used.
        pyarrow.parquet.read_table(path).validate(full=True)
        # Rows are counted from 0, whatever index pandas has saved.
        frame = pd.read_parquet(path).reset_index(drop=True)
    except Exception as error:  # pyarrow and pandas raise whatever the damage leads to
        raise TableError(f"{path} is not a readable Parquet table ({' '.join(str(error).split())})") from None
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise TableError(f"{path} has the column {str(twice[0])!r} twice: take one out, or call it otherwise")
    return frame


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
            raise TableError(
                f"{source} has no column {column!r}{nearest(column, there)}; its columns are {', '.join(there)}"
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
    return np.array(["" if _is_nothing(value) else str(value).strip() for value in frame[column]], object)


def classes_of(frame: pd.DataFrame, column: str) -> NDArray[np.object_]:
    """The column as names of classes, see `class_name`."""
    return np.array([class_name(value) for value in frame[column]], object)


def numbers(frame: pd.DataFrame, column: str, source: str, *, gaps: bool = True) -> NDArray[np.float64]:
    """The column as finite numbers; NaN where it is empty or missing.

    Text is read where it can mean one number only: "16", and "10,5" in a column of decimal commas; "1,234" is refused.

    Raises:
        TableError: an entry is not a finite number; or, without `gaps`, is empty.
    """
    if column not in frame:
        return np.full(len(frame), np.nan)
    given = frame[column]
    values = _numbers(given)
    commas = np.isnan(values)
    commas[commas] = ["," in str(value) for value in given[commas]]
    if commas.any():
        values[commas] = _of_decimal_commas(given, commas, column, source)
    wrong = ~np.isfinite(values)
    if gaps:
        wrong[wrong] = [str(value).strip().lower() not in _UNKNOWN for value in given[wrong]]
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        where = "in every row that is not empty" if gaps else "in every row"
        raise TableError(
            f"{source}: column {column!r} must hold a finite number {where}, got "
            f"{_shown(given.iloc[row])} in row {given.index[row]} (counted from 0)"
        )
    return values


def _numbers(given: pd.Series) -> NDArray[np.float64]:
    try:
        return pd.to_numeric(given, errors="coerce").to_numpy(np.float64, na_value=np.nan).copy()
    except (TypeError, OverflowError, ValueError):
        # Lists and the like, as JSON may hold them.
        return np.array([_number(value) for value in given], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, str | int | float | np.number) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _of_decimal_commas(
    given: pd.Series, commas: NDArray[np.bool_], column: str, source: str
) -> NDArray[np.float64]:
    """Those entries that have a comma, if the column as a whole shows that it is a decimal one."""
    words = [str(value).strip() for value in given]
    marked = [(int(row), words[row]) for row in np.flatnonzero(commas)]
    with_point = next((row for row, word in enumerate(words) if "." in word), None)
    clear = any(_COMMA.match(word) and not _THOUSANDS.match(word) for _, word in marked)
    for row, word in marked:
        if not _COMMA.match(word) or not clear or with_point is not None:
            raise TableError(
                f"{source}: column {column!r} holds {word!r} in row {given.index[row]} (counted from 0), which "
                "could be a decimal comma, one between thousands, or none; write numbers with a point and no commas"
            )
    return np.array([float(word.replace(",", ".")) for _, word in marked], np.float64)


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
                f"{_shown(frame[column].iloc[row])} in row {frame.index[row]} (counted from 0)"
            )
    return np.array([1.0 if word in _YES else 0.0 if word in _NO else np.nan for word in words], np.float64)


def in_words(value: Any) -> bool | None:
    """Whether True, "yes", 1, "1.0" and the like or False, "no", 0, "" and the like is meant; None for all else."""
    word = class_name(value).lower()
    return True if word in _YES else False if word in _NO or not word else None


def is_unknown(word: str) -> bool:
    """Whether a text is one that programs write where they know nothing, such as "", "NA" and "null"."""
    return word.lower() in _UNKNOWN


def _is_nothing(value: Any) -> bool:
    # JSON may give lists, of which each entry would be asked.
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(value: Any) -> str:
    return "nothing" if _is_nothing(value) or not str(value).strip() else repr(str(value))
