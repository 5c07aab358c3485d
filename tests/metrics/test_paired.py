"""Two models compared on the same images."""

import numpy as np
import pytest
from scipy.stats import binom

from xt.metrics.paired import difference, mcnemar


def test_mcnemar_is_a_binomial_of_those_that_only_one_has_right():
    one = np.array([True] * 12 + [False] * 3 + [True] * 20)
    other = np.array([False] * 12 + [True] * 3 + [True] * 20)
    assert mcnemar(one, other) == pytest.approx(2 * binom.cdf(3, 15, 0.5))
    assert mcnemar(other, one) == pytest.approx(mcnemar(one, other))
    assert mcnemar(one, one) == 1.0


def test_a_difference_that_is_always_there_is_none_of_chance():
    found = difference(0.1, np.linspace(0.05, 0.15, 999))
    assert (found.low, found.high) == pytest.approx((0.0525, 0.1475), abs=1e-3)
    assert found.p == pytest.approx(2 / 1000)
    assert difference(0.0, np.linspace(-1, 1, 999)).p == 1.0
    nothing = difference(0.1, [np.nan, np.nan])
    assert (nothing.low, nothing.p) == (None, None)


def test_p_is_small_as_often_as_it_says():
    """Of models that are equally good, one in twenty seems better at p = 0.05."""
    generator = np.random.default_rng(0)
    small = 0
    for _ in range(300):
        values = generator.normal(size=60)
        drawn = values[generator.integers(60, size=(300, 60))].mean(axis=1)
        small += (difference(values.mean(), drawn).p or 0) < 0.05
    assert 0.02 <= small / 300 <= 0.09
