"""Tables of boxes: columns, areas, windows and what is refused."""

import numpy as np
import pytest

from xt.errors import ShapeError
from xt.labels.box_table import BoxTable


def boxes() -> BoxTable:
    return BoxTable.of(
        [[0, 0, 4, 10], [3, 5, 9, 7], [8, 8, 8, 12]],
        [2, 0, 1],
        scores=[0.5, 0.25, 1.0],
        crowd=[False, True, False],
    )


def test_what_is_left_out_has_its_documented_value():
    table = BoxTable([1.0], [2.0], [4.0], [8.0])
    assert len(table) == 1
    assert table.labels[0] == 0
    assert table.scores[0] == 1
    assert not table.crowd[0]
    assert table.areas[0] == 18
    assert (table.labels.dtype, table.crowd.dtype, table.y0.dtype) == (np.int64, np.bool_, np.float64)


def test_sides_centres_and_edges():
    table = boxes()
    np.testing.assert_array_equal(table.heights, [4, 6, 0])
    np.testing.assert_array_equal(table.widths, [10, 2, 4])
    np.testing.assert_array_equal(table.centres, [[2, 5], [6, 6], [8, 10]])
    np.testing.assert_array_equal(table.edges[1], [3, 5, 9, 7])


def test_an_area_of_its_own_goes_with_its_box():
    table = BoxTable.of([[0, 0, 4, 4], [0, 0, 2, 2]], areas=[9.5, 3.0])
    np.testing.assert_array_equal(table.select([1, 0]).areas, [3.0, 9.5])
    np.testing.assert_array_equal(table.shifted(5, 6).areas, [9.5, 3.0])
    np.testing.assert_array_equal(BoxTable.concatenate([table, boxes()]).areas, [9.5, 3.0, 40, 12, 0])


def test_selecting_by_mask_by_number_and_nothing():
    table = boxes()
    np.testing.assert_array_equal(table.select([2, 0]).labels, [1, 2])
    np.testing.assert_array_equal(table.select(table.crowd).scores, [0.25])
    assert len(table.select([])) == 0
    assert len(BoxTable.empty().select(np.zeros(0, dtype=bool))) == 0


def test_boxes_of_a_window_share_area_with_it():
    table = BoxTable.of([[0, 0, 4, 4], [4, 4, 8, 8], [-3, -3, 20, 20]])
    np.testing.assert_array_equal(table.within(0, 0, 4, 4).edges, table.edges[[0, 2]])
    np.testing.assert_array_equal(table.within(3.5, 3.5, 1, 1).edges, table.edges)


def test_clipping_moves_edges_only():
    cut = BoxTable.of([[-3, -2, 20, 5]], [7]).clipped(10, 12)
    np.testing.assert_array_equal(cut.edges, [[0, 0, 10, 5]])
    assert cut.areas[0] == 23 * 7
    assert cut.labels[0] == 7


def test_moving_and_joining():
    joined = BoxTable.concatenate([boxes().shifted(1, -1), BoxTable.empty()])
    np.testing.assert_array_equal(joined.edges[0], [1, -1, 5, 9])
    np.testing.assert_array_equal(joined.crowd, boxes().crowd)
    assert len(BoxTable.concatenate([])) == 0


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ShapeError, match="columns of boxes must be equally long"):
        BoxTable.of([[0, 0, 1, 1]], [1, 2])


@pytest.mark.parametrize("edges", [[5, 0, 4, 1], [0, 5, 1, 4], [0, 0, np.nan, 1], [0, 0, np.inf, 1]])
def test_a_box_that_is_none_is_refused(edges):
    with pytest.raises(ShapeError, match=r"a box must have y0 <= y1 and x0 <= x1, got .* as row 1"):
        BoxTable.of([[0, 0, 1, 1], edges])
