"""Masks that lie beside, around, coarser than or upside down on their images: laid on by coordinates, or refused."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

import xt
from tests.images.files import write_raster
from xt.errors import ShapeError
from xt.labels.alignment import aligned
from xt.labels.targets import MaskTarget

UTM = "EPSG:32616"
IMAGE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
HEIGHT, WIDTH = 40, 60


def raster(path: Path, pixels: np.ndarray, transform: Affine | None, crs: str | None = UTM) -> Path:
    place = {} if transform is None else {"transform": transform, "crs": crs}
    return write_raster(path, pixels[..., None], **place)


@pytest.fixture
def image(tmp_path: Path) -> xt.LargeImage:
    return xt.open_image(raster(tmp_path / "i.tif", np.zeros((HEIGHT, WIDTH), np.uint8), IMAGE))


@pytest.fixture
def classes() -> np.ndarray:
    """Of twice the image's size each way, the image being its middle."""
    return np.random.default_rng(0).integers(0, 3, (2 * HEIGHT, 2 * WIDTH), dtype=np.uint8)


def on(image: xt.LargeImage, path: Path) -> np.ndarray:
    with MaskTarget(path, class_names=("a", "b", "c")).on(image) as mask:
        assert mask.shape == image.shape
        return mask.read(0, 0, *mask.shape)[..., 0]


def middle(classes: np.ndarray) -> np.ndarray:
    return classes[HEIGHT // 2 : HEIGHT // 2 + HEIGHT, WIDTH // 2 : WIDTH // 2 + WIDTH]


def test_a_larger_mask_is_cut_where_the_image_lies(tmp_path, image, classes):
    around = IMAGE @ Affine.translation(-WIDTH // 2, -HEIGHT // 2)
    np.testing.assert_array_equal(on(image, raster(tmp_path / "m.tif", classes, around)), middle(classes))
    # What rounding does to coordinates is no difference.
    nearly = Affine(0.5000001, 0, around.c + 0.01, 0, -0.4999999, around.f - 0.01)
    np.testing.assert_array_equal(on(image, raster(tmp_path / "m.tif", classes, nearly)), middle(classes))
    # A mask that names no system is in the image's.
    np.testing.assert_array_equal(
        on(image, raster(tmp_path / "m.tif", classes, around, None)), middle(classes)
    )


def test_a_mask_from_south_to_north_or_east_to_west_is_turned(tmp_path, image, classes):
    part = middle(classes)
    south = Affine(0.5, 0, 500_000, 0, 0.5, 4_000_000 - 0.5 * HEIGHT)
    np.testing.assert_array_equal(on(image, raster(tmp_path / "m.tif", part[::-1], south)), part)
    west = Affine(-0.5, 0, 500_000 + 0.5 * WIDTH, 0, 0.5, 4_000_000 - 0.5 * HEIGHT)
    np.testing.assert_array_equal(on(image, raster(tmp_path / "m.tif", part[::-1, ::-1], west)), part)
    # Or the image runs so, and the mask around it does not.
    turned = xt.open_image(raster(tmp_path / "s.tif", np.zeros((HEIGHT, WIDTH), np.uint8), south))
    around = IMAGE @ Affine.translation(-WIDTH // 2, -HEIGHT // 2)
    np.testing.assert_array_equal(on(turned, raster(tmp_path / "m.tif", classes, around)), part[::-1])


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_pixels_of_a_whole_multiple_are_repeated(tmp_path, image, classes, factor):
    # One pixel of the image beyond its upper left corner.
    place = IMAGE @ Affine.translation(-1, -1) @ Affine.scale(factor)
    repeated = classes.repeat(factor, 0).repeat(factor, 1)
    path = raster(tmp_path / "m.tif", classes, place)
    np.testing.assert_array_equal(on(image, path), repeated[1 : 1 + HEIGHT, 1 : 1 + WIDTH])
    south = place @ Affine.translation(0, 2 * HEIGHT) @ Affine.scale(1, -1)
    path = raster(tmp_path / "m.tif", classes[::-1], south)
    np.testing.assert_array_equal(on(image, path), repeated[1 : 1 + HEIGHT, 1 : 1 + WIDTH])


def test_of_finer_masks_the_pixel_in_the_middle_counts(tmp_path, image):
    fine = np.random.default_rng(0).integers(0, 3, (3 * HEIGHT, 3 * WIDTH), dtype=np.uint8)
    path = raster(tmp_path / "m.tif", fine, IMAGE @ Affine.scale(1 / 3))
    np.testing.assert_array_equal(on(image, path), fine[1::3, 1::3])


def test_values_and_nodata_go_along(tmp_path, image, classes):
    around = IMAGE @ Affine.translation(-WIDTH // 2, -HEIGHT // 2)
    path = raster(tmp_path / "m.tif", (classes * 100).astype(np.uint8), around)
    with MaskTarget(path, [0, 100], 200, class_names=("a", "b")).on(image) as mask:
        pixels, known = mask.read_valid(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(known[..., 0], middle(classes) < 2)
    np.testing.assert_array_equal(pixels[known], middle(classes)[middle(classes) < 2])


@pytest.mark.parametrize(
    ("transform", "crs", "message"),
    [
        (Affine(0.5, 0, 900_000, 0, -0.5, 1_000_000), UTM, "does not cover the image"),
        (IMAGE @ Affine.translation(1, 0), UTM, "does not cover the image"),
        (IMAGE @ Affine.translation(0.5, 0), UTM, r"their pixels are 0 and 0\.5 \(y, x\) off each other"),
        (IMAGE @ Affine.translation(-0.25, -3), UTM, "pixels .* off each other"),
        (
            IMAGE @ Affine.scale(1.5),
            UTM,
            r"a pixel of the image is 0\.666667 pixels of the mask, which is no whole",
        ),
        (IMAGE @ Affine.scale(1.01), UTM, "no whole multiple"),
        (IMAGE @ Affine.rotation(5), UTM, "turned against each other"),
        (IMAGE @ Affine.rotation(90), UTM, "turned against each other"),
        (IMAGE, "EPSG:32617", "is in the coordinate system EPSG:32617, .* in EPSG:32616: warp"),
        (Affine(1e-5, 0, -87, 0, -1e-5, 36), "EPSG:4326", "is in the coordinate system EPSG:4326"),
    ],
)
def test_what_lies_elsewhere_is_refused_with_both_places(tmp_path, image, transform, crs, message):
    path = raster(tmp_path / "m.tif", np.zeros((HEIGHT, WIDTH), np.uint8), transform, crs)
    with pytest.raises(ShapeError, match=message) as caught:
        on(image, path)
    assert "m.tif" in str(caught.value)
    assert "i.tif" in str(caught.value)
    if "coordinate system" not in message:
        assert "at x 500000 to 500030, y 3999980 to 4000000 (EPSG:32616)" in str(caught.value)


def test_one_system_in_two_spellings_is_one(image):
    mask = xt.open_image(np.zeros((HEIGHT, WIDTH), np.uint8))
    mask.transform, mask.crs = image.transform, "+proj=utm +zone=16 +datum=WGS84 +units=m +no_defs"
    assert aligned(mask, image) is mask


def test_without_coordinates_sizes_must_be_equal(tmp_path, image):
    path = raster(tmp_path / "m.tif", np.zeros((HEIGHT, WIDTH), np.uint8), None)
    assert on(image, path).shape == (HEIGHT, WIDTH)
    path = raster(tmp_path / "m.tif", np.zeros((HEIGHT, WIDTH + 1), np.uint8), None)
    with pytest.raises(ShapeError, match=r"m\.tif is 40 x 61 pixels; the mask of .*i\.tif must be 40 x 60"):
        on(image, path)
