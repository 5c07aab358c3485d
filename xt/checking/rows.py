"""A table read as training reads it, and where that fails, row by row: what is wrong with one hides no other."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from xt.checking.findings import Finding, Severity
from xt.config.run import RunConfig
from xt.errors import XTError
from xt.labels.image_table import ImageTable
from xt.training.tables import load_table

# Of a table in which nearly every row is wrong, no more attempts than these.
_MOST_ATTEMPTS = 2000


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What could be read of a table.

    Attributes:
        table: its good rows; None if there are none.
        others: (row, image) of rows whose labels cannot be read, as far as the images are known.
    """

    table: ImageTable | None
    others: tuple[tuple[int, Path], ...]
    findings: tuple[Finding, ...]


def read_rows(config: RunConfig) -> Rows:
    """Read the table or folder that a configuration names, as far as it can be read."""
    data = config.data

    def load(rows: Sequence[int] | None) -> ImageTable:
        return load_table(data, config.labels, config.model, rows=rows)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = load(None)
        except XTError as error:
            first = str(error)
        else:
            said = tuple(Finding(severity=Severity.WARNING, sentence=str(one.message)) for one in caught)
            return Rows(table=table, others=(), findings=said)
    of_all = Rows(table=None, others=(), findings=(Finding(severity=Severity.ERROR, sentence=first),))
    try:
        count = data.count_rows()
    except XTError:
        return of_all
    if count is None:
        return of_all
    bad = dict(_bad_rows(range(count), _attempt(load)))
    others = {row: _image_of(config, row) for row in bad}
    seen = tuple((row, path) for row, path in others.items() if path is not None)
    if len(bad) == count and (
        not seen or (count > 1 and set(bad.values()) == {first} and first.startswith(data.place))
    ):
        # Of the table as a whole, such as a column that it does not have.
        return replace(of_all, others=seen)
    # One file of labels may serve several rows.
    rows_of: dict[str, list[int]] = {}
    for row, sentence in bad.items():
        rows_of.setdefault(sentence, []).append(row)
    findings = [
        Finding(
            severity=Severity.ERROR,
            sentence=sentence,
            rows=tuple(rows),
            files=tuple(str(path) for row in rows if (path := others[row]) is not None),
        )
        for sentence, rows in rows_of.items()
    ]
    good = [row for row in range(count) if row not in bad]
    return Rows(
        table=load(good) if good else None,
        others=seen,
        findings=tuple(findings),
    )


Attempt = Callable[[Sequence[int]], str | None]
"""What is said of some rows that are read alone; None if they can be read."""


def _attempt(load: Callable[[Sequence[int]], ImageTable]) -> Attempt:
    def attempt(rows: Sequence[int]) -> str | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load(rows)
            except XTError as error:
                return str(error)
        return None

    return attempt


def _bad_rows(rows: Sequence[int], attempt: Attempt) -> Iterator[tuple[int, str]]:
    """Each row that cannot be read, with the reason, by halves of halves."""
    waiting = [rows]
    attempts = 0
    while waiting:
        some = waiting.pop()
        attempts += 1
        sentence = attempt(some)
        if sentence is None:
            continue
        if len(some) == 1 or attempts > _MOST_ATTEMPTS:
            # So many are wrong that one sentence has to do for the rest.
            yield from ((row, sentence) for row in some)
            continue
        middle = len(some) // 2
        waiting += [some[middle:], some[:middle]]


def _image_of(config: RunConfig, row: int) -> Path | None:
    with suppress(XTError):
        return config.data.image_paths([row])[0]
    return None
