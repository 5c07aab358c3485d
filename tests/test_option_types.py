"""Options of parts against the types of their signatures."""

from collections.abc import Mapping, Sequence

import pytest

from xt.errors import ConfigError
from xt.option_types import check_numbers, check_option


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, [0, -3], [1.5, True, "1", None, [1]]),
        (float, [0.5, 2], [True, "0.5", None]),
        (bool, [True], [1, "yes"]),
        (str, ["a"], [1, None]),
        (int | None, [1, None], [0.5, "a"]),
        (Mapping[str, float] | None, [None, {}, {"a": 1}], [{"a": "b"}, {1: 2.0}, [1]]),
        (Sequence[float], [[1, 2.5], ()], ["12", [None], 3]),
    ],
)
def test_values_of_another_type_are_refused(kind, good, bad):
    for value in good:
        check_option("width", value, kind)
    for value in bad:
        with pytest.raises(ConfigError, match=r"^width must be .*, got "):
            check_option("width", value, kind)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 10**30, 1e308, -(2**63)])
def test_numbers_beyond_all_meaning_are_refused_wherever_they_stand(number):
    for value in (number, [1, number], {"a": {"b": [number]}}):
        with pytest.raises(ConfigError, match="options must be at most 100 and finite, got"):
            check_numbers("options", value, 100)
