"""An image made from another's pixels as they are read: what somebody who wraps an image gets without writing it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import xt
from tests.images.files import TRANSFORM, smooth, write_raster
from xt.errors import ImageError
from xt.images import LargeImage, MappedImage
from xt.testing.images import ImageContract


def negative(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    return np.where(pixels == (-1 if nodata is None else nodata), pixels, 255 - pixels)


class Negative(MappedImage):
    """8-bit values the other way round; what holds nothing stays what it is."""

    def map_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return negative(pixels, self.nodata)


class Ratio(MappedImage):
    """The first channel over the second."""

    def __init__(self, image: LargeImage) -> None:
        super().__init__(image, channels=1, dtype=np.dtype(np.float32), channel_names=["ratio"])

    def map_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[..., :1] / np.maximum(pixels[..., 1:2], 1).astype(np.float32)

    def map_valid(self, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return valid[..., :1] & valid[..., 1:2]


PIXELS = np.maximum(smooth(90, 70), 1)


class TestNegative(ImageContract):
    @pytest.fixture
    def image(self) -> LargeImage:
        return Negative(xt.open_image(PIXELS))

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return negative(PIXELS, None)


class TestRatioOfAPart(ImageContract):
    """Of a view, and seen through views itself."""

    @pytest.fixture
    def image(self) -> LargeImage:
        return Ratio(xt.open_image(PIXELS).rotate(1).crop(2, 3, 60, 70))

    @pytest.fixture
    def reference(self) -> np.ndarray:
        part = np.rot90(PIXELS)[2:62, 3:73]
        return part[..., :1] / part[..., 1:2].astype(np.float32)


class TestNegativeOfAFile(ImageContract):
    """With levels, a place on the map, and pixels that hold nothing."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> LargeImage:
        path = write_raster(
            tmp_path / "a.tif", PIXELS, overviews=(2,), crs="EPSG:32633", transform=TRANSFORM, nodata=255,
            tiled=True, blockxsize=16, blockysize=16,
        )  # fmt: skip
        return Negative(xt.open_image(path))

    @pytest.fixture
    def level_references(self, tmp_path: Path, image: LargeImage) -> list[np.ndarray]:
        with xt.open_image(tmp_path / "a.tif") as file:
            return [
                negative(file.read(0, 0, *shape, level=level), 255)
                for level, shape in enumerate(file.level_shapes)
            ]

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return negative(PIXELS, 255)


def test_it_has_the_image_s_place_resolution_and_levels_and_closes_it() -> None:
    image = xt.open_image(PIXELS).crop(1, 2, 80, 60)
    image.transform, image.crs, image.microns_per_pixel = (
        (2.0, 0.1, 7.3, 0.25, -3.0, 11.7),
        "EPSG:32633",
        (0.3, 0.7),
    )
    image.orientation, image.alpha_bands, image.qupath_origin = 6, 1, (4, 5)
    mapped = Negative(image)
    for name in (
        "name", "shape", "levels", "level_shapes", "channels", "dtype", "transform", "control", "crs",
        "microns_per_pixel", "orientation", "alpha_bands", "qupath_origin", "fill", "nodata", "channel_names",
    ):  # fmt: skip
        assert getattr(mapped, name) == getattr(image, name), name
    mapped.close()
    assert image.closed
    with pytest.raises(ImageError, match="was closed; open it again"):
        mapped.read(0, 0, 3, 3)


def test_other_channels_have_a_nodata_value_and_names_of_their_own() -> None:
    source = np.array([[[4, 2, 0], [0, 3, 1], [6, 0, 2]]], np.uint8)
    image = Ratio(xt.open_image(source, nodata=0))
    assert (image.channels, image.dtype, image.nodata, image.channel_names) == (
        1,
        np.float32,
        None,
        ("ratio",),
    )
    pixels, valid = image.read_valid(0, 0, 1, 3)
    assert image.has_nodata
    np.testing.assert_array_equal(pixels[0, :, 0], np.float32([2, 0, 6]))
    np.testing.assert_array_equal(valid[0, :, 0], [True, False, False])
    assert [notes.name for notes in image.band_notes()] == ["ratio"]
