"""Finely where there is structure, coarsely where it is plain, within the budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xt.errors import DataWarning
from xt.images import open_image
from xt.regions.by_content import ByContent, content_of
from xt.regions.choice import regions_within
from xt.regions.grid import RegionGrid

SIZE = 32


def plain_but_for(*squares, shape=(600, 520), dtype=np.uint8, value=100):
    array = np.full((*shape, 3), value, dtype)
    random = np.random.default_rng(0)
    for y, x, side in squares:
        array[y : y + side, x : x + side] = random.integers(0, 255, array[y : y + side, x : x + side].shape)
    return open_image(array)


def chosen(image, foreground=None, order="raster", **options):
    fine = RegionGrid.from_image(image, SIZE, order, foreground)
    return ByContent(**options).first(image, fine), fine


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("order", ["raster", "hilbert"])
def test_what_is_opened_is_where_the_structure_is(dtype, order):
    grid, fine = chosen(plain_but_for((200, 300, 20), (10, 10, 12), dtype=dtype), budget=0.2, order=order)
    finest = {(row, column) for scale, row, column in grid.places.tolist() if scale == 1}
    assert finest >= {(6, 9), (0, 0)}
    assert len(grid) <= 0.2 * len(fine)
    assert grid.is_partition


@pytest.mark.parametrize("budget", [0.15, 0.3, 0.9, 1, 40, 200, 10_000])
@pytest.mark.parametrize("keep_coarse", [False, True])
def test_a_budget_is_kept(budget, keep_coarse):
    image = open_image(np.random.default_rng(0).integers(0, 255, (600, 520, 1), dtype=np.uint8))
    grid, fine = chosen(image, budget=budget, keep_coarse=keep_coarse)
    most = regions_within(budget, fine)
    # One that is opened is opened wholly, into up to four.
    assert most - 3 - keep_coarse <= len(grid) <= most


def test_with_a_tolerance_the_rest_of_a_budget_is_left():
    """On a ground that is not quite plain small things come first either way."""
    random = np.random.default_rng(0)
    array = random.integers(100, 120, (1600, 1600, 1), dtype=np.uint8)
    places = [(70, 70), (900, 1300), (1500, 400)]
    for y, x in places:
        array[y : y + 40, x : x + 40] = random.integers(0, 255, (40, 40, 1))
    options = {"levels": 4, "budget": 0.1}
    grids = [chosen(open_image(array), **options, **more)[0] for more in ({"tolerance": 3.0}, {})]
    for grid in grids:
        finest = {(row, column) for scale, row, column in grid.places.tolist() if scale == 1}
        assert finest >= {(y // SIZE, x // SIZE) for y, x in places}
    assert len(grids[0]) < 0.07 * 2500 < 0.099 * 2500 < len(grids[1])


def test_a_smaller_budget_opens_some_of_the_same():
    image = plain_but_for((200, 300, 60), (10, 10, 120), (400, 100, 90))
    some, more = (chosen(image, budget=budget, keep_coarse=True)[0] for budget in (60, 100))
    assert {*map(tuple, some.places)} < {*map(tuple, more.places)}


def test_a_plain_image_costs_the_coarsest_regions_whatever_the_budget():
    grid, fine = chosen(plain_but_for(), budget=1.0)
    assert set(grid.scales) == {4}
    assert (len(grid), len(fine)) == (5 * 5, 19 * 17)


def test_a_tolerance_opens_what_has_more_than_so_much_of_the_mean():
    image = plain_but_for((64, 64, 32))
    assert (chosen(image, tolerance=1e9)[0].scales == 4).all()
    grid, fine = chosen(image, tolerance=0.0)
    assert (2, 2) in {(row, column) for scale, row, column in grid.places.tolist() if scale == 1}
    assert len(grid) < 0.2 * len(fine)
    assert 25 < len(chosen(image, tolerance=0.0, budget=30)[0]) <= 30


def test_nothing_is_opened_for_the_edge_of_what_is_missing():
    """A hard edge to nodata is no structure; nor are pixels that are missing, whatever lies under them."""
    random = np.random.default_rng(0)
    array = np.full((512, 512, 1), 200, np.uint8)
    array[:200] = 0
    array[300:340, 300:340] = random.integers(100, 255, (40, 40, 1))
    with open_image(array, nodata=0) as image:
        fine = RegionGrid.from_image(image, SIZE)
        content = content_of(image, fine).energy
    assert set(map(tuple, np.argwhere(content > 0))) <= {(y, x) for y in (9, 10) for x in (9, 10)}


def test_nan_of_floats_does_not_make_everything_unknown():
    array = np.zeros((128, 128, 1), np.float32)
    array[5, 5] = np.nan
    array[70:90, 70:90] = np.random.default_rng(0).random((20, 20, 1))
    with open_image(array, nodata=float("nan")) as image:
        content = content_of(image, RegionGrid.from_image(image, SIZE)).energy
    assert np.isfinite(content).all()
    assert content[2, 2] > content[0, 0] == 0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 4), budget=st.floats(0.3, 1))
def test_of_a_foreground_all_is_covered_and_nothing_else_is_counted(seed, levels, budget):
    random = np.random.default_rng(seed)
    array = random.integers(
        0, 255, (int(random.integers(1, 400)), int(random.integers(1, 400)), 1), dtype=np.uint8
    )
    foreground = random.random((7, 9)) < 0.3
    foreground[3, 4] = True
    image = open_image(array)
    fine = RegionGrid.from_image(image, 16, "hilbert", foreground)
    grid = ByContent(levels=levels, tolerance=0.0).first(image, fine)
    assert grid.is_partition
    assert len(grid) <= len(fine)


def test_content_is_the_same_in_stripes(monkeypatch):
    array = np.random.default_rng(0).integers(0, 255, (300, 200, 2), dtype=np.uint8)
    image = open_image(array)
    fine = RegionGrid.from_image(image, SIZE)
    at_once = content_of(image, fine)
    monkeypatch.setattr("xt.regions.by_content._STRIPE_BYTES", 1)
    np.testing.assert_allclose(content_of(image, fine), at_once)


@pytest.mark.parametrize("size", [15, 17, 24, 100])
def test_any_region_size_will_do(size):
    image = plain_but_for((200, 300, 60))
    fine = RegionGrid.from_image(image, size)
    grid = ByContent(budget=0.5).first(image, fine)
    assert grid.is_partition
    assert 1 in grid.scales


@pytest.mark.parametrize("budget", [4, 5, 6])
def test_a_budget_that_opens_nothing_is_told(budget):
    array = np.random.default_rng(0).integers(0, 255, (4 * SIZE, 4 * SIZE, 3), dtype=np.uint8)
    with pytest.warns(
        DataWarning, match=f"has 4 regions, and the budget of {budget} leaves none to be opened"
    ):
        grid, _ = chosen(open_image(array), budget=budget, levels=2)
    assert set(grid.scales) == {2}
    # With one more something is opened, and where there is nothing to be seen nothing is said.
    grid, _ = chosen(open_image(array), budget=7, levels=2)
    assert set(grid.scales) == {1, 2}
    chosen(open_image(np.zeros_like(array)), budget=budget, levels=2)


def test_a_budget_below_the_coarsest_level_is_told():
    with pytest.warns(DataWarning, match="coarsest of 2 levels has 90 regions, more than the budget of 32"):
        grid, _ = chosen(plain_but_for((64, 64, 32)), budget=0.1, levels=2)
    assert set(grid.scales) == {2}
