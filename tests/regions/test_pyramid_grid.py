"""Laws of grids of several scales, at whatever sizes hypothesis finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xt.errors import ShapeError
from xt.regions.grid import ORDERS, RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

orders = st.sampled_from(sorted(ORDERS))
NEVER, EITHER = st.just(False), st.booleans()


@st.composite
def grids(draw, keep=NEVER, masked=EITHER) -> PyramidGrid:
    """Some regions of the coarsest level opened, then some of what is left, once or twice more."""
    fine = RegionGrid(
        height=draw(st.integers(1, 90)),
        width=draw(st.integers(1, 90)),
        region_size=draw(st.integers(3, 12)),
        order=draw(orders),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(masked):
        mask = random.random((fine.rows, fine.columns)) < 0.4
        mask[0, 0] = True
        fine = RegionGrid(
            height=fine.height, width=fine.width, region_size=fine.region_size, order=fine.order, mask=mask
        )
    levels = draw(st.integers(1, 4))
    grid = PyramidGrid.coarsest(fine, levels)
    for _ in range(levels - 1):
        grid = grid.opened(np.flatnonzero(random.random(len(grid)) < 0.4), keep=draw(keep))
    return grid


def covered(grid) -> np.ndarray:
    counts = np.zeros((grid.height, grid.width), dtype=int)
    for y, x, height, width in grid:
        counts[y : y + height, x : x + width] += 1
    return counts


@settings(max_examples=60)
@given(grid=grids(masked=st.just(False)))
def test_leaves_cover_every_pixel_exactly_once(grid):
    assert (covered(grid) == 1).all()
    assert grid.is_partition


@settings(max_examples=60)
@given(grid=grids(masked=st.just(True)))
def test_leaves_cover_what_is_wanted_exactly_once_and_hold_something_that_is(grid):
    counts, wanted = covered(grid), np.zeros((grid.height, grid.width), dtype=bool)
    for y, x, side, _ in grid.fine:
        wanted[y : y + side, x : x + side] = True
    assert (counts[wanted] == 1).all()
    assert counts.max() == 1
    for y, x, side, _ in grid:
        assert wanted[y : y + side, x : x + side].any()


@settings(max_examples=60)
@given(grid=grids(keep=st.booleans()), side=st.integers(1, 3))
def test_positions_lie_in_their_regions_and_values_at_their_positions(grid, side):
    positions = grid.token_positions(side)
    regions = np.array(list(grid)).repeat(side**2, axis=0)
    assert (positions > regions[:, :2]).all()
    assert (positions < regions[:, :2] + regions[:, 2:]).all()
    numbers = np.arange(len(positions), dtype=float)
    laid, cell = grid.to_map(numbers, side), grid.cell(side)
    # Each cell shows the finest token that covers its centre: the nearest one of that token's scale.
    for row, column in np.argwhere(np.isfinite(laid))[:: max(1, laid.size // 50)]:
        centre = (np.array([row, column]) + 0.5) * cell
        half = regions[:, 2:] / side / 2
        around = (np.abs(positions - centre) <= half + 1e-9).all(axis=1)
        assert laid[row, column] == min(np.flatnonzero(around), key=lambda n: (half[n, 0], n))


@settings(max_examples=60)
@given(grid=grids(keep=st.booleans()))
def test_a_pyramid_comes_coarse_to_fine_and_a_partition_along_the_curve(grid):
    if covered(grid).max() > 1:
        assert (np.diff(grid.scales) <= 0).all()
        return
    rank = {region[:2]: number for number, region in enumerate(RegionGrid(**_sizes(grid)))}
    first = [
        min(
            rank[y, x]
            for y in range(region.y, min(region.y + region.height, grid.height), grid.region_size)
            for x in range(region.x, min(region.x + region.width, grid.width), grid.region_size)
        )
        for region in grid
    ]
    assert first == sorted(first)


def _sizes(grid):
    return {name: getattr(grid, name) for name in ("height", "width", "region_size", "order")}


@settings(max_examples=40)
@given(grid=grids(), side=st.integers(1, 3), levels=st.integers(1, 4))
def test_with_everything_opened_it_is_the_grid_itself(grid, side, levels):
    fine = grid.fine
    everything = PyramidGrid.coarsest(fine, levels)
    for _ in range(levels):
        everything = everything.opened(np.arange(len(everything)))
    assert list(everything) == list(fine)
    np.testing.assert_array_equal(everything.token_positions(side), fine.token_positions(side))
    values = np.random.default_rng(0).random(len(fine) * side**2)
    np.testing.assert_array_equal(everything.to_map(values, side), fine.to_map(values, side))
    assert everything.cell(side) == fine.cell(side)


def test_the_order_of_places_that_are_given_is_of_no_matter():
    fine = RegionGrid(height=64, width=64, region_size=16, order="hilbert")
    grid = PyramidGrid.coarsest(fine, 2).opened(np.array([1, 2]))
    again = PyramidGrid(fine, np.random.default_rng(0).permutation(grid.places))
    np.testing.assert_array_equal(again.places, grid.places)


def test_one_region_that_covers_the_image_is_the_coarsest():
    grid = PyramidGrid.coarsest(RegionGrid(height=40, width=70, region_size=16), 9)
    assert list(grid) == [(0, 0, 128, 128)]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([[3, 0, 0]], "power of two, got 3"),
        ([[0, 0, 0]], "power of two, got 0"),
        ([[2, 0, 2]], "no region of scale 2 in row 0, column 2: the image has 4 x 4"),
        ([[1, -1, 0]], "no region of scale 1 in row -1"),
        ([[1, 0, 0], [1, 0, 0]], "stands twice"),
        ([[0, 0]], r"shape \(N, 3\)"),
    ],
)
def test_odd_places_are_refused(places, message):
    fine = RegionGrid(height=64, width=64, region_size=16)
    with pytest.raises(ShapeError, match=message):
        PyramidGrid(fine, np.array(places))


def test_odd_numbers_of_levels_and_values_are_refused():
    fine = RegionGrid(height=64, width=64, region_size=16)
    with pytest.raises(ShapeError, match="at least 1 level, got 0"):
        PyramidGrid.coarsest(fine, 0)
    with pytest.raises(ShapeError, match="4 regions of 4 tokens need as many values"):
        PyramidGrid.coarsest(fine, 2).to_map(np.zeros(15), 2)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "places",
    [
        [[4, 1, 1]],  # Nothing of it is wanted.
        [[2, 0, 0]],  # It lies in one that is not opened.
        [[4, 0, 0], [2, 1, 1]],  # Of the one that is opened nothing is wanted there.
        [[4, 0, 0], [2, 2, 0]],  # It lies in another one.
        [[4, 7, 0]],
        [[4, -1, 0]],
        [[8, 0, 0]],
        [[3, 0, 0]],
        [[1, 0, 0]],
    ],
)
def test_what_is_not_in_the_grid_cannot_be_opened(places, keep):
    wanted = np.zeros((8, 8), dtype=bool)
    wanted[:2, :2] = wanted[5, 1] = True
    grid = PyramidGrid.coarsest(RegionGrid(height=80, width=80, region_size=10, mask=wanted), 3)
    with pytest.raises(
        ShapeError, match=r"scale \d in row -?\d, column \d cannot be opened: it is not in this"
    ):
        grid.with_opened(np.array(places), keep)


def test_what_was_opened_before_is_in_the_grid_only_if_it_was_kept():
    grid = PyramidGrid.coarsest(RegionGrid(height=80, width=80, region_size=10), 2)
    first = np.array([[2, 0, 0]])
    kept = grid.with_opened(first, keep=True)
    assert (kept.with_opened(first, keep=True).places == kept.places).all()
    assert len(kept.with_opened(first)) == len(kept) - 1
    with pytest.raises(ShapeError, match="cannot be opened"):
        grid.with_opened(first).with_opened(first)


@settings(max_examples=60)
@given(grid=grids(keep=st.booleans()))
def test_leaves_are_the_finest_regions_at_each_place_and_hold_all_that_is_wanted_once(grid):
    leaves = grid.leaves
    assert leaves.is_partition
    assert covered(leaves).max() == 1
    regions = np.array(list(grid))
    tops, sides = regions[:, None, :2], regions[:, None, 2:]
    within = ((regions[:, :2] >= tops) & (regions[:, :2] < tops + sides) & (regions[:, 2:] < sides)).all(
        axis=2
    )
    expected = {tuple(place) for place in grid.places[~within.any(axis=1)]}
    assert {tuple(place) for place in leaves.places} == expected
    assert (leaves is grid) == (len(leaves) == len(grid))


@settings(max_examples=60)
@given(grid=grids(keep=st.booleans()))
def test_covering_tells_the_finest_region_at_each_place(grid):
    found = grid.covering()
    regions = np.array(list(grid))
    places = np.argwhere(found >= -1) * grid.region_size
    for place, number in zip(places, found.ravel(), strict=True):
        holding = ((regions[:, :2] <= place) & (place < regions[:, :2] + regions[:, 2:])).all(axis=1)
        assert number == min(np.flatnonzero(holding), key=lambda n: regions[n, 2], default=-1)


@settings(max_examples=60)
@given(grid=grids(masked=EITHER))
def test_with_nothing_opened_twice_covering_is_that_of_the_grid_below(grid):
    fine = grid.fine
    everything = PyramidGrid.coarsest(fine, 1)
    np.testing.assert_array_equal(everything.covering(), fine.covering())
    assert fine.leaves is fine
