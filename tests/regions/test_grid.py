"""Laws of the grid, at whatever sizes hypothesis finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt import open_image
from xt.errors import ConfigError, ShapeError
from xt.regions.grid import ORDERS, RegionGrid

sizes = st.integers(1, 90)
orders = st.sampled_from(sorted(ORDERS))


def covered(grid: RegionGrid) -> np.ndarray:
    """How often each pixel of the image lies in a region."""
    counts = np.zeros((grid.height, grid.width), dtype=int)
    for y, x, height, width in grid:
        counts[y : y + height, x : x + width] += 1
    return counts


@given(height=sizes, width=sizes, region_size=st.integers(1, 40), order=orders)
def test_every_pixel_is_covered_exactly_once(height, width, region_size, order):
    grid = RegionGrid(height=height, width=width, region_size=region_size, order=order)
    assert (covered(grid) == 1).all()
    assert len(grid) == grid.rows * grid.columns


@given(height=sizes, width=sizes, region_size=st.integers(1, 40), order=orders, data=st.data())
def test_every_foreground_pixel_is_covered_exactly_once(height, width, region_size, order, data):
    shape = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    foreground = np.random.default_rng(seed).random(shape) < 0.05
    image = open_image(np.zeros((height, width), dtype=np.uint8))
    grid = RegionGrid.from_image(image, region_size, order, foreground)
    # An image pixel is foreground if any mask pixel that it overlaps is.
    rows = [slice(y * shape[0] // height, -(-(y + 1) * shape[0] // height)) for y in range(height)]
    columns = [slice(x * shape[1] // width, -(-(x + 1) * shape[1] // width)) for x in range(width)]
    by_row = np.stack([foreground[row].any(axis=0) for row in rows])
    wanted = np.stack([by_row[:, column].any(axis=1) for column in columns], axis=1)
    counts = covered(grid)
    assert (counts[wanted] == 1).all()
    assert counts.max(initial=0) <= 1
    for y, x, size, _ in grid:
        assert wanted[y : y + size, x : x + size].any(), "a region without foreground was kept"


@given(height=sizes, width=sizes, region_size=st.integers(1, 40), order=orders, side=st.integers(1, 4))
def test_values_laid_out_as_a_map_lie_at_their_positions(height, width, region_size, order, side):
    grid = RegionGrid(height=height, width=width, region_size=region_size, order=order)
    positions = grid.token_positions(side)
    pixels_per_token = region_size / side
    for axis in (0, 1):
        laid_out = grid.to_map(positions[:, axis], side)
        along = (np.arange(laid_out.shape[axis]) + 0.5) * pixels_per_token
        expected = along[:, None] if axis == 0 else along[None, :]
        np.testing.assert_allclose(laid_out, np.broadcast_to(expected, laid_out.shape))


@given(rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_serpentine_moves_by_one_region(rows, columns):
    cells = RegionGrid(height=rows, width=columns, region_size=1, order="serpentine").cells
    assert (np.abs(np.diff(cells, axis=0)).sum(axis=1) == 1).all()


@pytest.mark.parametrize("side", [1, 2, 4, 8, 32])
def test_hilbert_moves_by_one_region_on_a_square_power_of_two(side):
    cells = RegionGrid(height=side, width=side, region_size=1, order="hilbert").cells
    assert (np.abs(np.diff(cells, axis=0)).sum(axis=1) == 1).all()


def test_raster_goes_row_by_row():
    grid = RegionGrid(height=5, width=9, region_size=4)
    assert grid.origins.tolist() == [[0, 0], [0, 4], [0, 8], [4, 0], [4, 4], [4, 8]]
    assert grid[5] == (4, 8, 4, 4)


def test_skipped_regions_are_nan_in_a_map():
    mask = np.array([[True, False], [False, True]])
    grid = RegionGrid(height=8, width=8, region_size=4, mask=mask)
    np.testing.assert_array_equal(grid.to_map(np.array([1.0, 2.0]), 1), [[1, np.nan], [np.nan, 2]])


def test_sizes_that_are_not_positive_are_refused():
    with pytest.raises(ShapeError, match="an image of 0 x 5 and regions of 4 pixels"):
        RegionGrid(height=0, width=5, region_size=4)


def test_an_unknown_order_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match="unknown order 'spiral': choose one of raster, serpentine, hilbert"
    ):
        RegionGrid(height=5, width=5, region_size=4, order="spiral")


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"has 2 x 2 regions, its mask has shape \(3, 3\)"):
        RegionGrid(height=8, width=8, region_size=4, mask=np.ones((3, 3), dtype=bool))


def test_a_map_needs_one_value_a_token():
    with pytest.raises(ShapeError, match=r"4 regions of 4 tokens need as many values, got shape \(4,\)"):
        RegionGrid(height=8, width=8, region_size=4).to_map(np.zeros(4), 2)
