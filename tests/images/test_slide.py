import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest

import xt
from tests.images.files import smooth, write_raster, write_slide
from tests.shared_data import shared_data
from xt.errors import ImageError
from xt.images import LargeImage
from xt.images.raster import RasterImage
from xt.images.slide import SlideImage, on_white
from xt.testing.images import ImageContract


@functools.cache
def slide_pixels(path: Path, level: int = 0) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return on_white(np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level])))


class TestGenericSlide(ImageContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_slide(tmp_path / "a.tif", smooth(320, 256))

    @pytest.fixture
    def image(self, path: Path) -> Iterator[LargeImage]:
        with xt.open_image(path) as image:
            assert isinstance(image, SlideImage)
            assert image.microns_per_pixel == pytest.approx((1.0, 0.5))
            assert image.levels == (1.0, 2.0, 4.0)
            assert image.fill == 255
            yield image

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return smooth(320, 256)

    @pytest.fixture
    def level_references(self, path: Path) -> list[np.ndarray]:
        return [slide_pixels(path, level) for level in range(3)]

    def test_windows_of_levels_are_exact(self, image: LargeImage) -> None:
        pixels = smooth(320, 256)[::4, ::4]
        np.testing.assert_array_equal(image.read(40, 80, 50, 30, level=2), pixels[10:60, 20:50])
        np.testing.assert_array_equal(image.at_level(2).read(10, 20, 50, 30), pixels[10:60, 20:50])


REAL = {"wsi_cmu_small_region/CMU-1-Small-Region.svs": 1, "wsi_tcga_histolab/tcga-cr-7395-01a-01-ts1.svs": 2}


@pytest.mark.parametrize("name", REAL)
class TestRealSlide(ImageContract):
    @pytest.fixture
    def image(self, name: str) -> Iterator[LargeImage]:
        with xt.open_image(shared_data(name)) as image:
            yield image

    @pytest.fixture
    def reference(self, name: str) -> np.ndarray:
        return slide_pixels(shared_data(name))

    @pytest.fixture
    def level_references(self, name: str) -> list[np.ndarray]:
        return [slide_pixels(shared_data(name), level) for level in range(REAL[name])]


def test_real_resolution() -> None:
    with xt.open_image(shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")) as image:
        assert image.microns_per_pixel == (0.499, 0.499)
        assert image.shape == (2967, 2220)


def test_what_was_not_scanned_is_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 200, 51]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [224, 204, 244]]]


def test_tiled_tiffs_that_do_not_say_they_are_slides_go_to_gdal(tmp_path: Path) -> None:
    coarse = write_slide(tmp_path / "coarse.tif", smooth(128, 128), microns=85.0)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    tags = {"TIFFTAG_RESOLUTIONUNIT": "3", "TIFFTAG_XRESOLUTION": "20000", "TIFFTAG_YRESOLUTION": "20000"}
    placed = write_raster(tmp_path / "placed.tif", smooth(128, 128), tags=tags, crs="EPSG:3857", **tiled)
    four = write_raster(tmp_path / "four.tif", smooth(128, 128, 4), tags=tags, **tiled)
    alike = write_raster(tmp_path / "alike.tif", smooth(128, 128), tags=tags, **tiled)
    for path, kind in (
        (coarse, RasterImage),
        (placed, RasterImage),
        (four, RasterImage),
        (alike, SlideImage),
    ):
        assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
        with xt.open_image(path) as image:
            assert type(image) is kind


def test_a_damaged_slide_is_an_error(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", smooth(320, 256), levels=1)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    with xt.open_image(path) as image:
        assert isinstance(image, SlideImage)
        for _ in range(2):
            with pytest.raises(
                ImageError, match=r"a\.tif is damaged or cut off: rows 0 to 320 and columns 0 to"
            ):
                image.read(0, 0, 320, 256)
        np.testing.assert_array_equal(image.read(0, 0, 64, 64), smooth(320, 256)[:64, :64])


def test_a_slide_cut_off_is_an_error(tmp_path: Path) -> None:
    source = shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")
    path = tmp_path / "cut.svs"
    path.write_bytes(source.read_bytes()[:100_000])
    with pytest.raises(ImageError, match=r"cut\.svs is not a"):
        xt.open_image(path)


def test_goes_to_other_processes(tmp_path: Path) -> None:
    import pickle

    path = write_slide(tmp_path / "a.tif", smooth(128, 128))
    with xt.open_image(path, nodata=255) as image, pickle.loads(pickle.dumps(image)) as copy:
        assert copy.nodata == 255
        np.testing.assert_array_equal(copy.read(0, 0, 9, 9), image.read(0, 0, 9, 9))
