import numpy as np
import pytest

import xt
from xt.errors import ShapeError
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.relevance import relevance_map


def test_each_weight_lies_where_its_token_lies():
    grid = RegionGrid(height=200, width=300, region_size=64, order="hilbert")
    positions = grid.token_positions(4)
    weights = positions[:, 0] * 1000 + positions[:, 1]
    found = relevance_map(weights, grid, 4)
    # 200 and 300 pixels in steps of 16: what lies wholly in the padding is left out.
    assert found.pixel_size == 16
    assert found.values.shape == (13, 19)
    y, x = np.mgrid[0:13, 0:19] * 16 + 8
    np.testing.assert_allclose(found.values, (y * 1000 + x) / weights.mean(), rtol=1e-6)


def test_one_is_the_average_token_whatever_the_size():
    for height in (128, 1280):
        grid = RegionGrid(height=height, width=256, region_size=64)
        weights = np.random.default_rng(0).random(len(grid) * 4)
        assert relevance_map(weights / weights.sum(), grid, 2).values.mean() == pytest.approx(1, rel=1e-5)


def test_skipped_regions_are_nan():
    grid = RegionGrid(height=128, width=128, region_size=64, mask=np.array([[True, False], [True, True]]))
    values = relevance_map(np.full(3 * 4, 1 / 12), grid, 2).values
    expected = np.ones((4, 4))
    expected[:2, 2:] = np.nan
    np.testing.assert_allclose(values, expected)


def test_coordinates_are_the_images_own_with_larger_pixels():
    image = xt.open_image(np.zeros((128, 128), np.uint8))
    image.transform = (10.0, 1.0, 500_000.0, 2.0, -10.0, 4_000_000.0)
    image.crs, image.microns_per_pixel = "EPSG:32633", (0.5, 0.25)
    found = relevance_map(np.ones(16), RegionGrid(height=128, width=128, region_size=64), 2, image)
    assert found.transform == (320.0, 32.0, 500_000.0, 64.0, -320.0, 4_000_000.0)
    assert found.crs == "EPSG:32633"
    assert found.microns_per_pixel == (16.0, 8.0)


def test_wrong_number_of_weights():
    with pytest.raises(ShapeError, match=r"4 regions of 4 tokens need as many weights, got \(15,\)"):
        relevance_map(np.ones(15), RegionGrid(height=128, width=128, region_size=64), 2)


def test_a_coarse_token_s_weight_lies_over_all_that_it_covers():
    fine = RegionGrid(height=128, width=192, region_size=32)
    grid = PyramidGrid.coarsest(fine, 2).opened(np.array([1]))
    weights = np.arange(len(grid) * 4, dtype=float)
    found = relevance_map(weights, grid, 2)
    assert found.pixel_size == 16
    assert found.values.shape == (8, 12)
    # The first region covers 64 x 64 pixels with four tokens of 32 x 32 each.
    np.testing.assert_allclose(
        found.values[:4, :4], np.array([[0, 1], [2, 3]]).repeat(2, 0).repeat(2, 1) / weights.mean()
    )
