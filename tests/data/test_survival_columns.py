"""Times and events as clinical tables have them, and what is said of those that are none."""

import numpy as np
import pytest

from xt.errors import TableError
from xt.tasks import TASKS
from xt.tasks.base import TableRows


def read(folder, rows, columns=("time", "event")):
    (folder / "a.png").touch()
    lines = ["image,time,event,died", *(f"a.png,{row}" for row in rows)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    task = TASKS["survival"]
    return task.read_table(TableRows(path=folder / "table.csv"), task.Labels(label_columns=columns))


def test_they_are_read_in_all_their_spellings(tmp_path):
    table = read(tmp_path, ["3,1,", "2.5,0,", "0,TRUE,", "4,false,", "5,1.0,", "6,Yes,", "7,no,"])
    assert table.class_names == ("risk",)
    assert table.targets.dtype == np.float32
    assert table.targets.tolist() == [[3, 1], [2.5, 0], [0, 1], [4, 0], [5, 1], [6, 1], [7, 0]]
    assert read(tmp_path, ["3,,1", "4,,0"], ("time", "died")).targets[:, 1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["3,1,", "-2,0,"], None, r"column 'time' is below 0 in row 1 \(counted from 0\); times count from the be"),
        (["3,1,", ",0,"], None, "column 'time' is empty in row 1"),
        (["3,1,", "late,0,"], None, "column 'time' must hold a finite number in every row, got 'late' in row 1"),
        (["3,1,", "inf,0,"], None, "column 'time' must hold a finite number in every row, got 'inf' in row 1"),
        (["3,1,", "2,,"], None, "column 'event' is empty in row 1"),
        (["3,1,", "2,2,"], None, r"column 'event' must hold 1 \(it happened.*, got '2' in row 1 .*names the time f"),
        (["3,1,", "2,dead,"], None, "column 'event' must hold 1 .*, got 'dead' in row 1"),
        (["3,1,", "2,0.5,"], None, "column 'event' must hold 1 .*, got '0.5' in row 1"),
        (["3,1,"], ("time",), r"survival takes two label columns, .* got time; set labels.label_columns to \[time, ev"),
        (["3,1,"], ("time", "evnt"), r"evnt"),
    ],
)  # fmt: skip
def test_what_they_are_not_is_said(tmp_path, rows, columns, message):
    with pytest.raises(TableError, match=message):
        read(tmp_path, rows, columns or ("time", "event"))
