"""The sparse assignment against scipy's dense one, with far pairs made costly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from xt.errors import ConfigError, ShapeError
from xt.metrics.matching import match_points


def dense_twin(found, true, reach):
    """The whole matrix of distances, those out of reach at a huge cost."""
    distance = np.sqrt(((np.asarray(found)[:, None] - np.asarray(true)[None]) ** 2).sum(-1))
    rows, columns = linear_sum_assignment(np.where(distance > reach, 1e8, distance))
    near = distance[rows, columns] <= reach
    return rows[near], columns[near], distance[rows, columns][near]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    side=st.sampled_from([5, 20, 90]),
)
def test_as_many_pairs_and_as_short_as_the_dense_assignment(seed, n, m, side):
    rng = np.random.default_rng(seed)
    # Whole numbers every second time: many distances are then equal, or exactly the reach.
    found, true = rng.uniform(0, side, (n, 2)), rng.uniform(0, side, (m, 2))
    if seed % 2:
        found, true = found.round(), true.round()
    rows, columns, distance = match_points(found, true, 5.0)
    twin_rows, _, twin_distance = dense_twin(found.reshape(-1, 2), true.reshape(-1, 2), 5.0)
    assert len(rows) == len(twin_rows)
    assert distance.sum() == pytest.approx(twin_distance.sum(), abs=1e-9)
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert (np.sqrt(((found[rows] - true[columns]) ** 2).sum(-1)) == distance).all()
    assert (distance <= 5.0).all()


def test_without_ties_the_very_same_pairs():
    rng = np.random.default_rng(0)
    found, true = rng.uniform(0, 60, (300, 2)), rng.uniform(0, 60, (200, 2))
    rows, columns, distance = match_points(found, true, 3.0)
    twin = dense_twin(found, true, 3.0)
    assert len(rows) > 150
    for mine, theirs in zip((rows, columns, distance), twin, strict=True):
        assert mine.tolist() == theirs.tolist()


def test_two_far_pairs_are_preferred_to_one_near():
    # The first could have the true point at 1, but then the second would have none.
    rows, columns, distance = match_points([[0, 0], [0, 6]], [[0, 1], [0, -4]], 5.0)
    assert list(zip(rows, columns, distance, strict=True)) == [(0, 1, 4.0), (1, 0, 5.0)]


def test_points_that_coincide_and_a_distance_of_exactly_the_reach():
    rows, columns, distance = match_points([[3, 4], [100, 100]], [[3, 4], [103, 104]], 5)
    assert (rows.tolist(), columns.tolist(), distance.tolist()) == ([0, 1], [0, 1], [0.0, 5.0])
    assert len(match_points([[0, 0]], [[3, 4]], 4.999)[0]) == 0


def test_many_points_need_no_matrix():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 3000, (3000, 2))
    found = np.concatenate([true + rng.normal(0, 0.3, true.shape), rng.uniform(0, 3000, (60_000, 2))])
    # 63,000 x 3,000 distances would be 1.5 GB.
    rows, columns, _ = match_points(found, true, 2.0)
    assert len(rows) == 3000
    assert sorted(columns) == list(range(3000))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros((3, 3)), r"found points must be of shape \(N, 2\), got \(3, 3\)"),
        ([[0, 0], [np.nan, 1]], "found points must be finite numbers, and row 1 is not"),
    ],
)
def test_other_shapes_and_gaps_are_refused(found, message):
    with pytest.raises(ShapeError, match=message):
        match_points(found, [[0, 0]], 1.0)


@pytest.mark.parametrize("reach", [0, -1, np.nan])
def test_a_reach_must_be_above_zero(reach):
    with pytest.raises(ConfigError, match="within a distance above 0"):
        match_points([[0, 0]], [[0, 0]], reach)
