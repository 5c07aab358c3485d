"""Rows of numbers and words as the text of a CSV file."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Each row a line; numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()
