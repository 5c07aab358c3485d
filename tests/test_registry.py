"""Which name is nearest to one that is not known."""

import pytest

from xt.registry import nearest, nearest_names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("deph", " (did you mean 'depth'?)"),
        ("LABEL", " (did you mean 'Label'?)"),
        ("lable", " (did you mean 'Label'?)"),
        ("width", " (did you mean 'width_'?)"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_whatever_its_capitals(name: str, hint: str) -> None:
    assert nearest(name, ["depth", "Label", "width_", "count"]) == hint


def test_as_many_names_as_are_wanted_the_nearest_first() -> None:
    known = ["swin_tiny", "swin_small", "resnet"]
    assert nearest_names("swin_tinny", known, 2) == ["swin_tiny", "swin_small"]
    assert nearest_names("swin_tinny", known) == ["swin_tiny"]


def test_of_names_that_only_capitals_tell_apart_the_first() -> None:
    assert nearest_names("ab", ["AB", "Ab"]) == ["AB"]


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert nearest("a", []) == ""
