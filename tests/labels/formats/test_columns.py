"""What a class is called, whatever spelling a file has of it; numbers and answers as people write them."""

import decimal

import numpy as np
import pandas as pd
import pytest

from xt.errors import TableError
from xt.labels.formats.columns import class_name, numbers, texts
from xt.labels.image_table import class_indices, names_of_labels


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.0,
        "1",
        "1.0",
        " 1 ",
        "1.",
        "\ufeff1",
        "\u00a01",
        np.int64(1),
        np.float32(1),
        decimal.Decimal("1.0"),
    ],
    ids=repr,
)
def test_one_class_in_every_spelling(value):
    assert class_name(value) == "1"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("007", "007"), ("01.0", "01.0"), ("1.5", "1.5"), (1.5, "1.5"), ("1e3", "1e3"), ("v1.0", "v1.0"),
        (" Tumor: Positive ", "Tumor: Positive"), ("NA", "NA"), ("nan", "nan"), (-1.0, "-1"), ("-1.0", "-1"),
        (None, ""), (float("nan"), ""), (pd.NA, ""), (pd.NaT, ""), ("", ""), ("  ", ""), (2**53 + 1, str(2**53 + 1)),
        ("cafe\u0301", "caf\u00e9"), (float("inf"), "inf"), (True, "True"),
    ],
)  # fmt: skip
def test_other_names_are_what_they_are(value, name):
    assert class_name(value) == name


def test_places_of_classes_know_no_spelling():
    assert names_of_labels(["1", "1.0", "10", "2"], None) == ("1", "2", "10")
    assert class_indices(["1.0", "2", "1"], ("1", "2.0"), "t").tolist() == [0, 1, 0]


@pytest.mark.parametrize("entry", [[], [[]], [None], [1], {}])
def test_lists_in_a_file_of_json_are_no_numbers_and_text(entry):
    frame = pd.DataFrame({"a": pd.Series([entry], dtype=object)})
    with pytest.raises(TableError, match=r"t\.json: column 'a' must hold a finite number .* in row 0"):
        numbers(frame, "a", "t.json")
    assert texts(frame, "a").tolist() == [str(entry)]
