"""Tiles of every kind of source, at every zoom, where they belong."""

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import write_ome_zarr
from xt.errors import ShapeError
from xt.viewer.pyramid import Pyramid
from xt.viewer.scale import metres_per_pixel


def small(pixels, factor):
    """Means of blocks."""
    height, width = (side // factor * factor for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    return blocks.astype(float).mean(axis=(1, 3))


def test_each_zoom_halves_the_one_before():
    pixels = np.random.default_rng(0).integers(0, 255, (700, 1100, 3), dtype=np.uint8)
    pyramid = Pyramid(xt.open_image(pixels))
    assert pyramid.deepest == 3
    for zoom in range(4):
        factor = 2 ** (3 - zoom)
        expected = small(pixels, factor)
        for y in range(-(-700 // (256 * factor))):
            for x in range(-(-1100 // (256 * factor))):
                tile, valid = pyramid.read(zoom, y, x)
                part = expected[y * 256 : y * 256 + 256, x * 256 : x * 256 + 256]
                height, width = part.shape[:2]
                assert np.abs(tile[:height, :width] - part).max() <= 0.5
                assert valid[:height, :width].all()
    assert pyramid.window(0, 0, 0) == (0, 0, 2048, 2048)


@pytest.mark.parametrize("place", [(-1, 0, 0), (4, 0, 0), (3, 3, 0), (3, 0, 5), (3, -1, 0), (0, 1, 0)])
def test_there_is_no_such_tile(place):
    pyramid = Pyramid(xt.open_image(np.zeros((700, 1100), np.uint8)))
    with pytest.raises(ShapeError, match="has no tile"):
        pyramid.read(*place)


def test_an_image_of_one_tile():
    pyramid = Pyramid(xt.open_image(np.full((3, 5), 9, np.uint8)))
    assert pyramid.deepest == 0
    tile, valid = pyramid.read(0, 0, 0)
    assert (tile[:3, :5] == 9).all()
    assert valid.sum() == 15


def test_without_coarser_levels_an_overview_is_read_once():
    class Counted(xt.images.array.ArrayImage):
        pixels_read = 0

        def _read(self, y, x, height, width, level):
            Counted.pixels_read += height * width
            return super()._read(y, x, height, width, level)

    pixels = np.random.default_rng(0).integers(0, 255, (9000, 10_000), dtype=np.uint8)
    image = Counted(pixels)
    pyramid = Pyramid(image)
    tile, valid = pyramid.read(0, 0, 0)
    factor = 2**pyramid.deepest
    expected = small(pixels, factor)
    height, width = expected.shape[:2]
    assert np.abs(tile[:height, :width].astype(float) - expected).max() <= 1
    assert not valid[height + 1 :].any()
    once = Counted.pixels_read
    assert once < 1.2 * pixels.size
    pyramid.read(0, 0, 0)
    pyramid.read(1, 0, 0)
    pyramid.whole(100)
    assert Counted.pixels_read == once


def test_a_slide_s_own_levels_are_read(tmp_path):
    pixels = smooth(1024, 1536)
    write_slide(tmp_path / "slide.svs", pixels)
    image = xt.open_image(tmp_path / "slide.svs")
    pyramid = Pyramid(image)
    np.testing.assert_array_equal(pyramid.read(pyramid.deepest, 1, 2)[0], image.read(256, 512, 256, 256))
    # Every other pixel of the level before, as that file was made.
    np.testing.assert_array_equal(pyramid.read(2, 0, 1)[0], pixels[::2, ::2][:256, 256:512])
    np.testing.assert_array_equal(pyramid.read(1, 0, 0)[0], pixels[::4, ::4][:256, :256])
    tile, valid = pyramid.read(0, 0, 0)
    expected = small(pixels[::4, ::4], 2)
    assert np.abs(tile[:128, :192] - expected).max() <= 0.5
    assert valid.sum() == 3 * 128 * 192


def test_a_scene_with_nodata_and_a_stack(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 4000, (600, 700, 1)).astype(np.uint16)
    pixels[:100, :120] = 0
    for name in ("a", "b"):
        write_raster(tmp_path / f"{name}.tif", pixels, nodata=0)
    for source in (tmp_path / "a.tif", f"{tmp_path / 'a.tif'}|{tmp_path / 'b.tif'}"):
        image = xt.open_image(source)
        pyramid = Pyramid(image)
        tile, valid = pyramid.read(pyramid.deepest, 0, 0)
        np.testing.assert_array_equal(tile, image.read(0, 0, 256, 256))
        assert not valid[:100, :120].any()
        assert valid[100:].all()
        there = pyramid.read(0, 0, 0)[1]
        assert not there[: 100 // 4 - 1, : 120 // 4 - 1].any()
        assert there[26:150, 31:175].all()


def test_an_ome_zarr(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60_000, (3, 300, 520)).astype(np.uint16)
    write_ome_zarr(tmp_path / "a.zarr", pixels, "cyx", levels=2)
    image = xt.open_image(tmp_path / "a.zarr")
    pyramid = Pyramid(image)
    np.testing.assert_array_equal(pyramid.read(pyramid.deepest, 0, 1)[0], image.read(0, 256, 256, 256))


def located(tmp_path, crs, transform, size=100):
    import rasterio

    path = tmp_path / "map.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=size,
        width=size,
        count=1,
        dtype="uint8",
        crs=crs,
        transform=transform,
    ) as file:
        file.write(np.ones((1, size, size), np.uint8))
    return xt.open_image(path)


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        ("EPSG:32632", (10, 0, 500_000, 0, -20, 5_000_000), (20, 10)),
        # A degree of latitude is 111.2 km there, of longitude cos(48) of 111.3 km.
        ("EPSG:4326", (1e-4, 0, 9, 0, -1e-4, 48), (11.12, 7.46)),
        # Mercator's metres are too long by 1 / cos(60).
        ("EPSG:3857", (10, 0, 1_000_000, 0, -10, 8_399_737), (5.0, 5.0)),
        # US survey feet.
        ("EPSG:2263", (1, 0, 980_000, 0, -1, 200_000), (0.3048, 0.3048)),
        (None, (0.5, 0, 0, 0, -0.5, 0), (0.5, 0.5)),
    ],
)
def test_the_scale_bar_is_of_the_ground(tmp_path, crs, transform, expected):
    from rasterio import Affine

    found = metres_per_pixel(located(tmp_path, crs, Affine(*transform)))
    assert found == pytest.approx(expected, rel=0.01)


def test_what_lies_on_no_map_has_no_metres():
    assert metres_per_pixel(xt.open_image(np.zeros((9, 9), np.uint8))) is None
