"""What only one of two answers has, of points and boxes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.metrics.unlike import unlike_boxes, unlike_points


def test_points_of_one_class_near_each_other_are_one():
    one = PointTable(np.array([0.0, 10, 50]), np.array([0.0, 0, 50]), np.array([0, 0, 1]))
    other = PointTable(np.array([3.0, 50, 90]), np.array([0.0, 50, 90]), np.array([0, 0, 1]))
    # The first of both is one; the others differ in place or class.
    assert unlike_points(one, other, 5.0) == (4, 5)
    assert unlike_points(one, one, 5.0) == (0, 3)
    assert unlike_points(one, PointTable.empty(), 5.0) == (3, 3)
    assert unlike_points(PointTable.empty(), PointTable.empty(), 5.0) == (0, 0)


def test_boxes_of_which_half_is_shared_are_one():
    one = BoxTable.of([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], [0, 0, 1])
    other = BoxTable.of([[0, 0, 10, 9], [20, 26, 30, 36], [50, 50, 60, 60]], [0, 0, 0])
    assert unlike_boxes(one, other) == (4, 5)
    assert unlike_boxes(one, BoxTable.empty()) == (3, 3)
    assert unlike_boxes(BoxTable.empty(), BoxTable.empty()) == (0, 0)


@given(st.integers(0, 2**32 - 1))
def test_whoever_comes_first_and_each_has_one_partner(seed):
    random = np.random.default_rng(seed)

    def boxes(number: int) -> BoxTable:
        corners = random.uniform(0, 40, (number, 2))
        return BoxTable.of(np.hstack([corners, corners + random.uniform(1, 20, (number, 2))]))

    one, other = boxes(int(random.integers(0, 9))), boxes(int(random.integers(0, 9)))
    unlike, either = unlike_boxes(one, other)
    assert (unlike, either) == unlike_boxes(other, one)
    assert max(len(one), len(other)) <= either <= len(one) + len(other)
    assert unlike == 2 * either - len(one) - len(other)
    assert unlike_boxes(one, one) == (0, len(one))
