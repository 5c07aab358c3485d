"""Rows of numbers and words as the text of a CSV file."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_OF_BEFORE = re.compile(r"(?P<answer>(?:.*\.)?)(?P<kind>p|value|spread|label)\((?P<name>.*)\)")


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Each row a line; numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()


def as_now(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of predictions of before, its columns by names that SQL and R take as they are: p(NAME) becomes p_NAME."""
    return {_name_now(name): value for name, value in row.items()}


def _name_now(name: str) -> str:
    if name == "prediction":
        return "predicted"
    found = _OF_BEFORE.fullmatch(name)
    return name if found is None else f"{found['answer']}{found['kind']}_{found['name']}"
