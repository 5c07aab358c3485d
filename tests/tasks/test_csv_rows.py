import pytest

from xt.tasks.csv_rows import as_now


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("p(cat)", "p_cat"), ("p(a (b))", "p_a (b)"), ("value(age)", "value_age"), ("spread(cat)", "spread_cat"),
        ("spread(colour.blue)", "spread_colour.blue"), ("colour.p(blue)", "colour.p_blue"),
        ("a.b.value(x)", "a.b.value_x"), ("os.label(died)", "os.label_died"), ("prediction", "predicted"),
        # What is called so today.
        ("predicted", "predicted"), ("p_cat", "p_cat"), ("pixels(cat)", "pixels(cat)"),
        ("survival(12)", "survival(12)"),
        ("probability", "probability"), ("image", "image"), ("predicted_os", "predicted_os"),
    ],
)  # fmt: skip
def test_columns_of_before(then: str, now: str) -> None:
    assert as_now({then: "0.5"}) == {now: "0.5"}
