"""Regions anywhere: centres, turns, and maps of values that lie where the regions do."""

import numpy as np
import pytest

from xt.errors import ShapeError
from xt.regions.grid import RegionGrid
from xt.regions.scattered import ScatteredRegions, usual_step


def regions(
    origins: list[list[float]], size: float = 10, shape: tuple[int, int] = (40, 50)
) -> ScatteredRegions:
    return ScatteredRegions(
        height=shape[0], width=shape[1], region_size=size, origins=np.array(origins, float)
    )


@pytest.mark.parametrize("side", [1, 2])
def test_on_a_grid_they_are_the_grid(side: int) -> None:
    grid = RegionGrid(height=35, width=50, region_size=10)
    same = ScatteredRegions(height=35, width=50, region_size=10, origins=grid.origins.astype(float))
    np.testing.assert_array_equal(same.token_positions(side), grid.token_positions(side))
    values = np.arange(len(grid) * side**2, dtype=np.float64)
    assert same.cell(side) == grid.cell(side)
    laid = same.to_map(values, side)
    np.testing.assert_array_equal(laid, grid.to_map(values, side)[: laid.shape[0]])


def test_sparse_and_overlapping_values_lie_in_their_places() -> None:
    sparse = regions([[0, 0], [20, 30]]).to_map(np.array([1.0, 2.0]), 1)
    assert sparse.shape == (4, 5)
    assert (sparse[0, 0], sparse[2, 3]) == (1, 2)
    assert np.isnan(sparse).sum() == 18
    half = regions([[0, 0], [0, 5], [0, 10]])
    assert half.cell(1) == 5
    laid = half.to_map(np.array([1.0, 3.0, 5.0]), 1)
    assert laid[0, :5].tolist()[:4] == [1, 2, 4, 5]
    assert np.isnan(laid[0, 4])
    np.testing.assert_array_equal(laid[0], laid[1])


def test_regions_off_the_lattice_cover_what_they_cover() -> None:
    found = regions([[3, 3], [3, 13], [21, 30]])
    assert found.cell(1) == 5
    laid = found.to_map(np.array([1.0, 2.0, 3.0]), 1)
    assert [(laid == value).sum() for value in (1, 2, 3)] == [4, 4, 4]


def test_a_slide_of_few_small_patches_makes_no_giant_map() -> None:
    laid = regions([[0, 0], [90_000, 90_000]], size=16, shape=(100_000, 100_000)).to_map(
        np.array([1.0, 2.0]), 1
    )
    assert laid.size < 2**25
    assert np.nansum(laid) == 3


def test_the_usual_step_is_that_of_most() -> None:
    rows = [[0, 0], [0, 256], [0, 512], [1000, 7], [1000, 263], [1300, 7]]
    assert usual_step(np.array(rows)) == 256
    assert usual_step(np.array([[0, 0], [5, 7]])) is None


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"regions need positive sizes and origins \(N, 2\)"):
        regions([[0, 0]], size=0)
    with pytest.raises(ShapeError, match="2 tokens need as many values"):
        regions([[0, 0], [10, 0]]).to_map(np.zeros(3), 1)
