"""Pixel statistics equal NumPy's."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.data.images import CountingImage
from xt.data.statistics import pixel_statistics
from xt.errors import PixelError, ShapeError
from xt.images import LargeImage
from xt.regions.grid import RegionGrid


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("int16", 32767), ("float32", 1)]
)
def test_statistics_of_all_regions_are_numpy_s(dtype: str, scale: float) -> None:
    generator = np.random.default_rng(0)
    arrays = [
        generator.normal([100, 50], [20, 5], (height, width, 2)).clip(1, 250).astype(dtype)
        for height, width in ((70, 90), (64, 33))
    ]
    mean, std = pixel_statistics(arrays, region_size=32, num_regions=1000)  # type: ignore[arg-type]
    values = np.concatenate([array.reshape(-1, 2) for array in arrays]).astype(np.float64) / scale
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-9)


def test_large_values_of_small_spread_keep_their_digits() -> None:
    pixels = np.random.default_rng(0).normal(1e6, 1, (64, 64, 1)).astype(np.float64)
    _, std = pixel_statistics([CountingImage(pixels)], region_size=16, num_regions=100)
    np.testing.assert_allclose(std, pixels.std(), rtol=1e-9)


def test_nodata_is_left_out() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (64, 64, 1), dtype=np.uint8)
    pixels[:40] = 0
    mean, _ = pixel_statistics([CountingImage(pixels, nodata=0)], region_size=32)
    np.testing.assert_allclose(mean, pixels[40:].mean() / 255, rtol=1e-9)


def test_only_regions_of_the_grid_count() -> None:
    pixels = np.zeros((64, 64, 1), np.uint8)
    pixels[32:, 32:] = 51

    def grid(image: LargeImage) -> RegionGrid:
        mask = np.array([[False, False], [False, True]])
        return RegionGrid(height=64, width=64, region_size=32, mask=mask)

    assert pixel_statistics([CountingImage(pixels)], region_size=32, grid=grid)[0] == (pytest.approx(0.2),)


def test_a_constant_channel_has_deviation_one() -> None:
    pixels = np.full((32, 32, 2), 7, np.float32)
    assert pixel_statistics([CountingImage(pixels)], region_size=32) == ((7.0, 7.0), (1.0, 1.0))


def test_regions_are_sampled_over_many_images_and_by_seed() -> None:
    images = [CountingImage(np.full((64, 64, 1), index, np.float32)) for index in range(12)]
    first = pixel_statistics(images, region_size=32, num_regions=6, seed=0)
    assert sum(len(image.windows) for image in images) == 6
    assert max(len(image.windows) for image in images) == 1
    assert first == pixel_statistics(images, region_size=32, num_regions=6, seed=0)


def test_files_are_closed(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to count open files")
    for index in range(8):
        tifffile.imwrite(tmp_path / f"{index}.tif", np.full((64, 64), index, np.uint8), tile=(32, 32))
    before = len(os.listdir("/proc/self/fd"))
    pixel_statistics([tmp_path / f"{index}.tif" for index in range(8)], region_size=32)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_nothing_valid_and_nan_and_differing_channels() -> None:
    empty = CountingImage(np.zeros((32, 32, 1), np.uint8), nodata=0)
    with pytest.raises(PixelError, match=r"found no valid pixel in 1 images"):
        pixel_statistics([empty], region_size=32)
    broken = CountingImage(np.full((32, 32, 1), np.nan, np.float32))
    with pytest.raises(
        PixelError, match=r"counting has NaN or infinite pixels at y 0 to 32, .* data\.nodata"
    ):
        pixel_statistics([broken], region_size=32)
    one, two = (CountingImage(np.ones((32, 32, channels), np.uint8)) for channels in (1, 2))
    with pytest.raises(ShapeError, match=r"channels, the images before it"):
        pixel_statistics([one, two], region_size=32)
