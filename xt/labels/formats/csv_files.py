"""Tables as text: what spreadsheets, GIS and scripts write, read as its writer meant it or refused in one sentence.

Columns are parted by commas, semicolons or tabs, whichever the first line has. Byte order marks, blanks around cells,
line ends of any system, empty lines, commas at the ends of rows, Excel's `sep=;` and comments before the first line are
no content.
"""

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from xt.errors import DataWarning, TableError
from xt.labels.formats.text_files import read_text

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Files may hold outlines as text.
csv.field_size_limit(2**31 - 1)
_END = "end of the table"


def read_csv(path: str | Path) -> pd.DataFrame:
    """The table as text without blanks around it, "" where a cell is empty.

    Raises:
        TableError: there is no such file, it is no table, has a row of more cells than columns, or two columns of one
            name that differ.
    """
    told, text = _content(read_text(path, "table").replace("\r\n", "\n").replace("\r", "\n"))
    if not text:
        raise TableError(f"{path} is empty; expected a first line with the columns' names")
    is_tabbed = Path(path).suffix.lower() == ".tsv" and "\t" in text
    separator = told or ("\t" if is_tabbed else _separator(text, path))
    rows = _rows(text, separator, path)
    names, cells = rows[0], rows[1:]
    while names and not names[-1]:
        names = names[:-1]
    _check_rows(cells, len(names), separator, path)
    # A column without a name, such as pandas' row numbers, cannot be asked for.
    places = [place for place, name in enumerate(names) if name]
    columns = [
        pd.Series([row[place] if place < len(row) else "" for row in cells], dtype=object) for place in places
    ]
    return _frame([names[place] for place in places], columns, path)


def _content(text: str) -> tuple[str | None, str]:
    """The separator that Excel's first line tells, and the text from the line of names on."""
    told = None
    while text:
        line, _, rest = text.partition("\n")
        bare = line.strip().strip('"')
        if bare.lower().startswith("sep=") and len(bare) == 5:
            told = bare[4]
        elif bare.lower() == "sep=":
            # A tab that was stripped.
            told = "\t"
        elif bare.strip(",;\t ") and not bare.startswith("#"):
            break
        text = rest
    return told, text


def _separator(text: str, path: str | Path) -> str:
    """Of the separators in the line of names the one that parts every row alike."""
    there = [mark for mark in _SEPARATORS if len(next(_reader(text, mark))) > 1]
    if len(there) < 2:
        return there[0] if there else ","
    fitting = [mark for mark in there if len({len(_trimmed(row)) for row in _rows(text, mark, path)}) == 1]
    if len(fitting) != 1:
        words = " and ".join(_SEPARATORS[mark] for mark in there)
        raise TableError(
            f"{path}: its first line, {text.splitlines()[0]!r}, has {words}, and the rows do not tell which of them "
            "part the columns; put names that hold one into double quotes"
        )
    return fitting[0]


def _reader(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)


def _rows(text: str, separator: str, path: str | Path) -> list[list[str]]:
    """The rows that hold anything, their cells without blanks around."""
    # Behind a quote that nobody closed, the last line would be part of a cell.
    try:
        *rows, last = _reader(f"{text}\n{_END}\n", separator)
    except csv.Error as error:
        raise TableError(f"{path} is not a readable CSV table ({error})") from None
    if last != [_END]:
        start = text.count("\n") + 3 - sum(cell.count("\n") for cell in last)
        raise TableError(
            f"{path}: a double quote is opened near line {start} and never closed; take it out, or close it"
        )
    rows = [[cell.strip() for cell in row] for row in rows]
    return [row for row in rows if any(row)]


def _trimmed(row: list[str]) -> list[str]:
    last = max(place for place, cell in enumerate(row) if cell)
    return row[: last + 1]


def _check_rows(cells: Sequence[Sequence[str]], width: int, separator: str, path: str | Path) -> None:
    several = [number for number, row in enumerate(cells) if any("\n" in cell for cell in row)]
    if several:
        warnings.warn(
            f"{path}: a cell of row {several[0]} (counted from 0) goes over several lines; is there a double quote too "
            "many?",
            DataWarning,
            stacklevel=4,
        )
    for number, row in enumerate(cells):
        if any(row[width:]):
            what = _SEPARATORS.get(separator, repr(separator)).removesuffix("s")
            raise TableError(
                f"{path}: row {number} (counted from 0) has {len(row)} cells, its first line has {width} names: "
                f"{separator.join(row)!r}; is there a {what} in a cell without double quotes around it?"
            )


def _frame(names: Sequence[str], columns: Sequence[pd.Series], path: str | Path) -> pd.DataFrame:
    kept: dict[str, pd.Series] = {}
    for name, column in zip(names, columns, strict=True):
        if name not in kept:
            kept[name] = column
        elif kept[name].equals(column):
            warnings.warn(
                f"{path} has the column {name!r} twice, with the same cells", DataWarning, stacklevel=4
            )
        else:
            row = next(
                row for row, pair in enumerate(zip(kept[name], column, strict=True)) if pair[0] != pair[1]
            )
            raise TableError(
                f"{path} has the column {name!r} twice, with {kept[name][row]!r} and {column[row]!r} in row {row} "
                "(counted from 0): take one out, or call it otherwise"
            )
    return pd.DataFrame(kept)
