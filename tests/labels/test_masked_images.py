"""Pixels that a mask hides have no part in what is measured of images and made of them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

import xt
from tests.images.files import smooth, write_raster
from tests.small_model import small_model
from xt.data.encoding import open_for_encoding
from xt.data.grey import in_colour
from xt.data.statistics import pixel_statistics
from xt.data.views import Downsampled
from xt.errors import CheckpointError
from xt.images.foreground import foreground_mask

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def left_hidden(path: Path, pixels: np.ndarray) -> Path:
    """A file whose mask hides the left half."""
    with rasterio.open(write_raster(path, pixels), "r+") as file:
        file.write_mask(np.arange(pixels.shape[1]) >= np.full((pixels.shape[0], 1), pixels.shape[1] // 2))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pixels = np.full((128, 256, 3), 200, np.uint8)
    pixels[:, 128:] = smooth(128, 128, 3) // 4
    return left_hidden(tmp_path / "a.tif", pixels)


def test_statistics(path: Path) -> None:
    mean, std = pixel_statistics([path], region_size=64)
    there = (smooth(128, 128, 3) // 4).reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, there.mean(axis=0))
    np.testing.assert_allclose(std, there.std(axis=0))


def test_foreground(path: Path) -> None:
    with xt.open_image(path) as image:
        mask = foreground_mask(image, "nodata")
        np.testing.assert_array_equal(mask, np.arange(256) >= np.full((128, 1), 128))
        other = xt.open_image(np.zeros((128, 256, 3), np.uint8))
        np.testing.assert_array_equal(
            foreground_mask(other, path), mask & (image.read(0, 0, 128, 256).any(axis=2))
        )


def test_a_region_batch(path: Path) -> None:
    with xt.open_image(path) as image:
        batch = xt.RegionReader([image], [xt.RegionGrid.from_image(image, 128)])[0]
    assert batch.valid is not None
    assert not batch.valid[0].any()
    assert batch.valid[1].all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_image_averaged_down(dtype: str, tmp_path: Path) -> None:
    pixels = np.full((100, 200, 2), 90, dtype)
    pixels[:, 100:] = 10
    with xt.open_image(left_hidden(tmp_path / "a.tif", pixels)) as image:
        low, valid = Downsampled(image, 20).read_valid(0, 0, 10, 20)
    np.testing.assert_array_equal(valid, np.arange(20)[None, :, None] >= np.full((10, 1, 2), 10))
    assert (low[valid] == 10).all()


def test_a_grey_one_in_colour(tmp_path: Path) -> None:
    image = in_colour(xt.open_image(write_raster(tmp_path / "a.tif", smooth(9, 8, 2), alpha="YES")), 3)
    assert image.channels == 3
    valid = image.read_valid(0, 0, 9, 8)[1]
    np.testing.assert_array_equal(valid, np.repeat(smooth(9, 8, 2)[..., 1:] > 0, 3, axis=2))


def test_features_remember_what_alpha_was(tmp_path: Path) -> None:
    model = small_model(in_channels=4)
    with open_for_encoding(tmp_path / "store.zarr", model, alpha="channel") as store:
        assert store.alpha == "channel"
    with (
        pytest.raises(CheckpointError, match=r"its data\.alpha is channel, here it is validity"),
        open_for_encoding(tmp_path / "store.zarr", model),
    ):
        pass
