import numpy as np
import pytest

from xt.errors import ConfigError
from xt.labels.merge_points import merge_points


def naive(y, x, scores, radius) -> list[int]:
    """The definition, one point after the other."""
    kept: list[int] = []
    for number in sorted(range(len(y)), key=lambda i: (-scores[i], y[i], x[i])):
        if all(np.hypot(y[number] - y[other], x[number] - x[other]) >= radius for other in kept):
            kept.append(number)
    return sorted(kept)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 300))
    y, x = rng.uniform(-50, 50, (2, count)) * rng.choice([0.2, 1, 5])
    # Few different scores, so that many are equal.
    scores = rng.integers(0, rng.choice([2, 50]), count) / 50
    radius = float(rng.choice([0.5, 3, 20]))
    expected = naive(y, x, scores, radius)
    assert merge_points(y, x, scores, radius).tolist() == expected
    assert len(expected) < count or radius == 0.5


def test_the_order_of_the_points_changes_nothing():
    rng = np.random.default_rng(1)
    y, x, scores = rng.integers(0, 40, 500), rng.integers(0, 40, 500), rng.integers(0, 3, 500) / 3
    first = merge_points(y, x, scores, 4.0)
    kept = {(y[i], x[i], scores[i]) for i in first}
    for _ in range(5):
        order = rng.permutation(500)
        again = order[merge_points(y[order], x[order], scores[order], 4.0)]
        assert {(y[i], x[i], scores[i]) for i in again} == kept
    assert len(first) < 500


def test_two_halves_of_one_object_at_a_border():
    kept = merge_points(
        np.array([255.8, 256.9, 300.0]), np.array([10.0, 10.5, 10.0]), np.array([0.7, 0.9, 0.2]), 3.0
    )
    assert kept.tolist() == [1, 2]


def test_only_what_stays_drops_others():
    # The middle one drops for the left one, so the right one, close to the middle one only, stays.
    assert merge_points(np.zeros(3), np.array([0.0, 2.0, 4.0]), np.array([0.9, 0.8, 0.7]), 3.0).tolist() == [
        0,
        2,
    ]


def test_at_the_radius_both_stay():
    assert len(merge_points(np.array([0.0, 3.0]), np.array([0.0, 4.0]), np.ones(2), 5.0)) == 2
    assert len(merge_points(np.array([0.0, 3.0]), np.array([0.0, 4.0]), np.ones(2), 5.0001)) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_merge(count):
    assert merge_points(np.zeros(count), np.zeros(count), np.ones(count), 5.0).tolist() == list(range(count))


def test_no_radius():
    assert len(merge_points(np.zeros(3), np.zeros(3), np.ones(3), 0.0)) == 3
    for radius in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="the radius within which points are one must be at least 0"):
            merge_points(np.zeros(3), np.zeros(3), np.ones(3), radius)


def test_many_points_need_no_matrix_of_distances():
    rng = np.random.default_rng(0)
    y, x = rng.uniform(0, 30_000, (2, 300_000))
    kept = merge_points(y, x, rng.random(300_000), 10.0)
    assert 200_000 < len(kept) < 300_000
