"""Columns of a table that say when something happened, or until when it had not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xt.data.label_columns import Targets, filled, in_rows
from xt.errors import TableError
from xt.labels.formats.columns import in_words, numbers, texts


def times_and_events(
    frame: pd.DataFrame, path: Path, columns: Sequence[str], class_names: Sequence[str] | None
) -> Targets:
    """(N, 2) float32: the time, and 1 where it happened then, 0 where observation ended then.

    Raises:
        TableError: there are not two columns, a time is missing or below 0, or an event is neither.
    """
    if len(columns) != 2:
        raise TableError(
            f"{path}: survival takes two label columns, the time and whether it happened then, got "
            f"{', '.join(columns)}; set labels.label_columns to [time, event]"
        )
    time, event = columns
    filled(texts(frame, time), frame, time, path)
    times = numbers(frame, time, str(path), gaps=False)
    negative = [row for row, value in zip(frame.index, times, strict=True) if value < 0]
    if negative:
        raise TableError(
            f"{path}: column {time!r} is below 0 in {in_rows(negative)}; times count from the beginning of "
            "observation: leave such rows out, or correct them"
        )
    words = filled(texts(frame, event), frame, event, path)
    said = [in_words(word) for word in words]
    if None in said:
        place = said.index(None)
        raise TableError(
            f"{path}: column {event!r} must hold 1 (it happened at that time) or 0 (it had not until then), or true "
            f"and false, got {words[place]!r} in row {frame.index[place]} (counted from 0); labels.label_columns names "
            "the time first, then the event"
        )
    return np.stack([times, np.array(said, float)], axis=1).astype(np.float32), tuple(
        class_names or ("risk",)
    )
