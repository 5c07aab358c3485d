import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import openslide
import pytest
import rasterio

import xt
from tests.images.files import TRANSFORM, raster_pixels, smooth, write_raster, write_slide
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, OutputError
from xt.images import tile
from xt.images.conversion import Notes
from xt.images.conversion import tile as tile_with_options


def test_a_striped_file_becomes_a_tiled_pyramid(tmp_path: Path) -> None:
    pixels = smooth(1100, 1300, 4, "uint16")
    source = write_raster(tmp_path / "a.tif", pixels, nodata=7, crs="EPSG:32611", transform=TRANSFORM)
    fractions: list[float] = []
    assert tile(source, tmp_path / "b.tif", fractions.append) == tmp_path / "b.tif"
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    assert fractions[-1] == 1.0
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif"), pixels)
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
        assert dataset.block_shapes == [(512, 512)] * 4
        assert dataset.overviews(1) == [2, 4]
        assert (dataset.nodata, dataset.crs.to_epsg(), dataset.transform) == (7, 32611, TRANSFORM)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float16", "bool"])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_of_any_type(dtype: str, channels: int, tmp_path: Path) -> None:
    pixels = (
        (smooth(70, 80, channels) % 2).astype(dtype) if dtype == "bool" else smooth(70, 80, channels, dtype)
    )
    tile(xt.open_image(pixels), tmp_path / "b.tif")
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif"), pixels)


def test_levels_are_means(tmp_path: Path) -> None:
    pixels = smooth(1024, 1024, 1, "float32")
    tile(xt.open_image(pixels), tmp_path / "b.tif")
    means = pixels.reshape(512, 2, 512, 2, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(raster_pixels(tmp_path / "b.tif", 1), means, rtol=1e-5, atol=1e-4)


def test_classes_are_picked_not_averaged(tmp_path: Path) -> None:
    pixels = np.where(smooth(1024, 1024, 1) > 127, 200, 10).astype(np.uint8)
    colors = {10: (255, 0, 0, 255), 200: (0, 0, 255, 255)}
    source = write_raster(tmp_path / "a.tif", pixels, colors, transform=TRANSFORM)
    tile(source, tmp_path / "b.tif")
    assert set(np.unique(raster_pixels(tmp_path / "b.tif", 1))) == {10, 200}
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.colormap(1)[200] == (0, 0, 255, 255)


def test_classes_of_an_array(tmp_path: Path) -> None:
    pixels = np.zeros((1024, 1024), np.uint8)
    pixels[::2] = 3
    pixels[:, ::2] = 3
    notes = Notes(palette={3: (9, 8, 7, 255)}, bands=("class",), tags={"XT_NOTE": "made here"})
    tile_with_options(xt.open_image(pixels), tmp_path / "b.tif", notes=notes)
    # Three of four pixels are of class 3, so all are one level up.
    assert (raster_pixels(tmp_path / "b.tif", 1) == 3).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "b.tif") as dataset:
            assert dataset.colormap(1)[3] == (9, 8, 7, 255)
            assert dataset.descriptions == ("class",)
            assert dataset.tags()["XT_NOTE"] == "made here"


def test_a_slide_stays_a_slide(tmp_path: Path) -> None:
    tile(write_slide(tmp_path / "a.tif", smooth(1100, 900)), tmp_path / "b.tif")
    with xt.open_image(tmp_path / "b.tif") as image, openslide.OpenSlide(tmp_path / "b.tif") as slide:
        assert image.microns_per_pixel == pytest.approx((1.0, 0.5))
        assert slide.level_count == 3
        np.testing.assert_array_equal(image.read(0, 0, 1100, 900), smooth(1100, 900))


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    source = shared_data("cog_rio_tiler/cog_gcps.tif")
    tile(source, tmp_path / "b.tif")
    with rasterio.open(source) as before, rasterio.open(tmp_path / "b.tif") as after:
        assert len(after.gcps[0]) == len(before.gcps[0]) == 210


def test_jpeg_is_smaller(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 600).astype(np.uint8)
    pixels = np.broadcast_to(ramp[:, np.newaxis, np.newaxis], (600, 600, 3))
    tile_with_options(xt.open_image(pixels), tmp_path / "b.tif", compression="jpeg", quality=95)
    assert np.abs(raster_pixels(tmp_path / "b.tif").astype(int) - pixels).max() < 6
    with rasterio.Env(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "b.tif") as dataset:
            assert dataset.compression.name == "jpeg"


def test_bad_requests(tmp_path: Path) -> None:
    image = xt.open_image(smooth(8, 9, 2, "uint16"))
    with pytest.raises(ConfigError, match=r"must be named .tif or .tiff, not b\.png"):
        tile(image, tmp_path / "b.png")
    with pytest.raises(
        ConfigError, match="JPEG holds 8-bit grey or RGB, but array 8x9x2 has 2 channels of uint16"
    ):
        tile_with_options(image, tmp_path / "b.tif", compression="jpeg")
    with pytest.raises(ConfigError, match='compression is "deflate" or "jpeg", not \'zip\''):
        tile_with_options(image, tmp_path / "b.tif", compression="zip")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="there is no file"):
        tile(tmp_path / "nowhere.tif", tmp_path / "b.tif")
    source = write_raster(tmp_path / "a.tif", smooth(8, 9))
    with pytest.raises(ConfigError, match="cannot be both read and written"):
        tile(source, source)
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        tile(source, tmp_path / "nowhere" / "b.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_damaged_source_leaves_the_old_result(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", smooth(700, 700))
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    (tmp_path / "b.tif").write_text("old")
    with pytest.raises(ImageError, match=r"a\.tif is damaged or cut off"):
        tile(source, tmp_path / "b.tif")
    assert (tmp_path / "b.tif").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


FULL_DISK = """
import resource, signal, sys, numpy, xt, xt.errors
from xt.images import tile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
pixels = numpy.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=numpy.uint8)
try:
    tile(xt.open_image(pixels), sys.argv[1])
except xt.errors.OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes as POSIX does")
def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "b.tif")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Could not write" in result.stdout
    assert "b.tif" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_stack_becomes_one_file(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32611", "transform": TRANSFORM}
    parts = [
        write_raster(tmp_path / f"{name}.tif", smooth(60, 70, 1, dtype), nodata=-7, **place)
        for name, dtype in (("VH", "float32"), ("mask", "int16"))
    ]
    source = "|".join(map(str, parts))
    tile(source, tmp_path / "both.tif")
    with xt.open_image(tmp_path / "both.tif") as image, xt.open_image(source) as expected:
        assert image.channel_names == ("VH", "mask")
        assert np.isnan(image.nodata)
        np.testing.assert_array_equal(image.read(0, 0, 60, 70), expected.read(0, 0, 60, 70))
    with pytest.raises(ConfigError, match="cannot be both read and written"):
        tile(source, parts[1])
