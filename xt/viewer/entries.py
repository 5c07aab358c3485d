"""The list of images: what is told of each, sorted and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xt.errors import ConfigError
from xt.viewer.found import FoundAnswers, answer_of, number_in
from xt.viewer.labelled import Labels

SORTED_BY = ("number", "name", "answer", "label", "score", "in_doubt", "error", "state")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the list of images.

    Attributes:
        number: by which it is asked for.
        name: to be shown.
        answer: what was predicted of the whole image, or how much of what; "" without a prediction.
        label: what the table of labels says of the whole image; "" without one.
        score: of the answer, 0 to 1; None where it has none.
        in_doubt: whether `xt predict` says so.
        error: how far the answer is from the label, 0 where they agree; None without a label.
        state: "accepted", "rejected" or "corrected" by a person; "" before.
    """

    number: int
    name: str
    answer: str = ""
    label: str = ""
    score: float | None = None
    in_doubt: bool = False
    error: float | None = None
    state: str = ""

    @property
    def done(self) -> bool:
        """Whether a person has looked at it and said so."""
        return bool(self.state)


def entry_of(
    number: int, name: str, image: str, found: FoundAnswers | None, labels: Labels | None, state: str = ""
) -> Entry:
    """What is known of an image without opening it.

    Args:
        name: to be shown.
        image: as found and labelled images are named.
    """
    row = None if found is None else found.of(image)
    label = "" if labels is None else labels.said(image)
    if row is None:
        return Entry(number=number, name=name, label=label, state=state)
    answer = answer_of(row)
    return Entry(
        number=number,
        name=name,
        answer=answer,
        label=label,
        score=number_in(row.row, "probability"),
        in_doubt=number_in(row.row, "in_doubt") == 1,
        error=_apart(answer, label) if label else _counts_apart(row.row, image, labels),
        state=state,
    )


def sorted_entries(entries: Sequence[Entry], by: str = "number", *, descending: bool = False) -> list[Entry]:
    """In the order of one of `SORTED_BY`; those of which nothing is known come last either way.

    Raises:
        ConfigError: there is no such order.
    """
    if by not in SORTED_BY:
        raise ConfigError(f"the list is sorted by one of {', '.join(SORTED_BY)}, not {by!r}")
    known = [entry for entry in entries if getattr(entry, by) not in (None, "")]
    unknown = [entry for entry in entries if getattr(entry, by) in (None, "")]
    return sorted(known, key=lambda entry: getattr(entry, by), reverse=descending) + unknown


def chosen_entries(
    entries: Sequence[Entry],
    *,
    text: str = "",
    answers: Sequence[str] | None = None,
    least_score: float | None = None,
    most_score: float | None = None,
    in_doubt: bool | None = None,
    least_error: float | None = None,
    done: bool | None = None,
) -> list[Entry]:
    """Those that fit all that is asked; None does not ask.

    Args:
        text: in the name, the answer or the label, whichever way it is written.
        answers: one of these, exactly.
    """
    wanted = text.casefold()

    def fits(entry: Entry) -> bool:
        return all(
            [
                wanted in f"{entry.name}\n{entry.answer}\n{entry.label}".casefold(),
                answers is None or entry.answer in answers,
                least_score is None or (entry.score is not None and entry.score >= least_score),
                most_score is None or (entry.score is not None and entry.score <= most_score),
                in_doubt is None or entry.in_doubt == in_doubt,
                least_error is None or (entry.error is not None and entry.error >= least_error),
                done is None or entry.done == done,
            ]
        )

    return [entry for entry in entries if fits(entry)]


def next_in_doubt(entries: Sequence[Entry], after: int) -> Entry | None:
    """The next in the list's order that is in doubt and not done, from the image of this number on and round again."""
    numbers = [entry.number for entry in entries]
    start = numbers.index(after) + 1 if after in numbers else 0
    return next(
        (entry for entry in (*entries[start:], *entries[:start]) if entry.in_doubt and not entry.done), None
    )


def _apart(answer: str, label: str) -> float:
    """Of classes 1 or 0; of labels the share that only one of both names; of numbers the largest difference."""
    said, true = (words.split(";") for words in (answer, label))
    try:
        if len(said) == len(true):
            return max(abs(float(one) - float(other)) for one, other in zip(said, true, strict=True))
    except ValueError:
        pass
    every = {*said, *true} - {""}
    return len(set(said) ^ set(true) - {""}) / len(every) if every else 0.0


def _counts_apart(row: Any, image: str, labels: Labels | None) -> float | None:
    """Of objects in files: by which part of the labelled ones their numbers differ."""
    given = None if labels is None else labels.given(image)
    if given is None:
        return None
    counted = sum(
        int(value) for name, value in row.items() if name.endswith(")") and "(" in name and value != ""
    )
    return abs(counted - given) / max(given, 1)
