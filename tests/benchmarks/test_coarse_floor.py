"""What the floor of a choice says: counted by hand, and beside every choice that there is."""

import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from coarse_floor import errors_of, least_lost, lost_by, shrunk_and_enlarged


def some_errors(seed, rows, columns, levels):
    generator = np.random.default_rng(seed)
    sides = [1 << level for level in range(levels)]
    return {s: generator.integers(0, 9 * s, (-(-rows // s), -(-columns // s))) for s in sides} | {
        1: np.zeros((rows, columns), int)
    }


def all_choices(fine, levels):
    """Every partition: anything that lies in opened ones alone may be opened."""
    coarsest = PyramidGrid.coarsest(fine, levels)
    inner = [
        (scale, row, column)
        for scale in (1 << level for level in range(1, levels))
        for row, column in product(range(-(-fine.rows // scale)), range(-(-fine.columns // scale)))
    ]
    for number in range(len(inner) + 1):
        for some in combinations(inner, number):
            in_others = all(
                scale == 1 << (levels - 1) or (2 * scale, row // 2, column // 2) in some
                for scale, row, column in some
            )
            if in_others:
                yield coarsest.with_opened(np.array(some, np.int64).reshape(-1, 3))


@pytest.mark.parametrize(
    ("seed", "rows", "columns", "levels"),
    [(0, 4, 4, 3), (1, 3, 5, 2), (2, 3, 4, 3), (3, 2, 2, 1), (4, 1, 7, 2)],
)
def test_no_choice_within_the_budget_loses_less_and_one_loses_as_little(seed, rows, columns, levels):
    errors = some_errors(seed, rows, columns, levels)
    choices = list(all_choices(RegionGrid(height=rows, width=columns, region_size=1), levels))
    assert all(grid.is_partition for grid in choices)
    for budget in {len(choices[0]), 5, 9, rows * columns} - set(range(len(choices[0]))):
        best = min(lost_by(grid, errors) for grid in choices if len(grid) <= budget)
        assert least_lost(errors, budget) == best


def test_wrong_pixels_are_counted_in_the_regions_of_their_own_scale():
    right = np.zeros((5, 9), bool)
    coarse = right.copy()
    coarse[3, 7], coarse[0, :3], coarse[4, 8] = True, True, True
    errors = errors_of({1: right, 2: coarse}, side=2)
    np.testing.assert_array_equal(errors[2], [[3, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(errors[1], np.zeros((3, 5)))


def test_what_is_plain_in_each_block_is_met_but_near_its_borders():
    wide = np.zeros((40, 24), np.float32)
    wide[8:24, 8:16] = 1
    np.testing.assert_array_equal(shrunk_and_enlarged(wide, 1, 8), wide > 0.5)
    found = shrunk_and_enlarged(wide, 4, 4)
    wrong = found != (wide > 0.5)
    assert 0 < wrong.sum() <= 16, "corners alone"
    # A region that overhangs says of the image's pixels what these are alone.
    full = np.ones((37, 21), np.float32)
    assert shrunk_and_enlarged(full, 4, 4).all()
