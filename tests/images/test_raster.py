import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import xt
from tests.images.files import TRANSFORM, raster_pixels, raster_validity, smooth, write_raster
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, PixelError
from xt.images import LargeImage
from xt.images.raster import RasterImage
from xt.testing.images import ImageContract

PLACED = {"crs": "EPSG:32611", "transform": TRANSFORM}
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
FILES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "striped": ("a.tif", {}, {"blockysize": 7}),
    "tiled": ("a.tif", {}, {**TILED, "compress": "deflate", "overviews": (2, 4), **PLACED}),
    "bands_apart": ("a.tif", {"channels": 4}, {**TILED, "interleave": "band", "compress": "lzw"}),
    "bigtiff": ("a.tif", {}, {**TILED, "BIGTIFF": "YES", "overviews": (3,)}),
    "cog": (
        "a.tif",
        {"height": 301, "width": 283},
        {"driver": "COG", "BLOCKSIZE": 128, "compress": "deflate", **PLACED},
    ),
    "uint16_13_bands": ("a.tif", {"channels": 13, "dtype": "uint16"}, {**TILED, "nodata": 65535, **PLACED}),
    "int16": ("a.tif", {"channels": 1, "dtype": "int16"}, {"nodata": -9999}),
    "float32_nan": ("a.tif", {"channels": 2, "dtype": "float32"}, {**TILED, "nodata": np.nan}),
    "png": ("a.png", {}, {"driver": "PNG"}),
    "png_16_bit_alpha": ("a.png", {"channels": 4, "dtype": "uint16"}, {"driver": "PNG"}),
    "jpeg": ("a.jpg", {}, {"driver": "JPEG"}),
    "jpeg2000": ("a.jp2", {}, {"driver": "JP2OpenJPEG"}),
}


@pytest.mark.parametrize("kind", FILES)
class TestRaster(ImageContract):
    @pytest.fixture
    def path(self, kind: str, tmp_path: Path) -> Path:
        name, size, options = FILES[kind]
        pixels = smooth(**{"height": 149, "width": 163, **size})
        with rasterio.Env() as environment:
            if options.get("driver", "GTiff") not in environment.drivers():
                pytest.skip(f"GDAL was built without {options['driver']}")
        return write_raster(tmp_path / name, pixels, **options)

    @pytest.fixture
    def image(self, path: Path) -> Iterator[LargeImage]:
        with xt.open_image(path) as image:
            assert isinstance(image, RasterImage)
            yield image

    @pytest.fixture
    def reference(self, path: Path) -> np.ndarray:
        return raster_pixels(path)

    @pytest.fixture
    def level_references(self, path: Path, kind: str) -> list[np.ndarray]:
        with xt.open_image(path) as image:
            count = len(image.levels)
        # Without this, a source that finds no levels would pass.
        assert count == {"tiled": 3, "bigtiff": 2, "cog": 3}.get(kind, 1)
        return [raster_pixels(path, level) for level in range(count)]

    @pytest.fixture
    def validity_references(self, path: Path, image: LargeImage) -> list[np.ndarray]:
        return [raster_validity(path, level) for level in range(len(image.levels))]


REAL = {
    "cog_rio_tiler/cog_gcps.tif": 4,
    "cog_rio_tiler/cog_hirise_mars.tif": 3,
    "cog_rio_tiler/mosaic_cog1.tif": 3,
    "cog_rio_tiler/no_geo.jpg": 4,
    "geotiff_rasterio/RGB.byte.tif": 1,
    "geotiff_rasterio/alpha.tif": 1,
    "sen1floods11_sample/S1/Spain_7370579_S1Hand.tif": 1,
    "sen1floods11_sample/S2/Spain_7370579_S2Hand.tif": 1,
}


@pytest.mark.parametrize("name", REAL)
class TestRealRaster(ImageContract):
    @pytest.fixture
    def image(self, name: str) -> Iterator[LargeImage]:
        with xt.open_image(shared_data(name)) as image:
            yield image

    @pytest.fixture
    def reference(self, name: str) -> np.ndarray:
        return raster_pixels(shared_data(name))

    @pytest.fixture
    def level_references(self, name: str) -> list[np.ndarray]:
        return [raster_pixels(shared_data(name), level) for level in range(REAL[name])]

    @pytest.fixture
    def validity_references(self, name: str) -> list[np.ndarray]:
        return [raster_validity(shared_data(name), level) for level in range(REAL[name])]


def test_coordinates_and_nodata(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(40, 50, 1, "int16"), nodata=-9999, **PLACED)
    with xt.open_image(path) as image:
        assert image.crs == "EPSG:32611"
        assert image.transform == tuple(TRANSFORM)[:6]
        assert image.nodata == image.fill == -9999
        assert image.microns_per_pixel is None
    with xt.open_image(path, nodata=7) as image:
        assert image.nodata == image.fill == 7
        assert image.read(-1, -1, 1, 1).tolist() == [[[7]]]
    with pytest.raises(ConfigError, match=r"nodata=0.5 cannot occur in .*a\.tif, whose pixels are int16"):
        xt.open_image(path, nodata=0.5)


def test_a_photo_has_neither(tmp_path: Path) -> None:
    Image.fromarray(smooth(40, 50)).save(tmp_path / "a.jpg", dpi=(300, 300))
    with xt.open_image(tmp_path / "a.jpg") as image:
        assert (image.crs, image.transform, image.nodata, image.fill) == (None, None, None, 0)
        assert image.microns_per_pixel is None


def test_a_nodata_value_the_pixels_cannot_hold_is_ignored(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(8, 9, 1, "float32"), nodata=-1e9)
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f"<NoDataValue>-1e9</NoDataValue><SimpleSource><SourceFilename>{path}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with xt.open_image(vrt) as image:
        assert image.nodata is None
        assert image.fill == 0


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"there is no file .*nowhere\.tif"):
        xt.open_image(tmp_path / "nowhere.tif")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, but an image file is expected"):
        xt.open_image(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(ImageError, match=r"a\.tif is empty \(0 bytes\)"):
        xt.open_image(tmp_path / "a.tif")


def test_text_named_tif(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("not an image\n")
    with pytest.raises(ImageError, match=r"a\.tif is not an image that GDAL can open, or it is damaged"):
        xt.open_image(tmp_path / "a.tif")


def test_complex_pixels(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((8, 9, 1), np.complex64))
    with pytest.raises(PixelError, match=r"a\.tif has pixels of type complex64, .* take its amplitude"):
        xt.open_image(path)


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_tiff_cut_off_before_its_directory(tmp_path: Path) -> None:
    # Pillow puts the directory behind the pixels.
    Image.fromarray(smooth(200, 200)).save(tmp_path / "a.tif", compression="tiff_deflate")
    content = (tmp_path / "a.tif").read_bytes()
    directory = int.from_bytes(content[4:8], "little")
    moved = content[:4] + (len(content) + 10).to_bytes(4, "little") + content[8:]
    assert directory < len(content)
    (tmp_path / "a.tif").write_bytes(moved)
    with pytest.raises(
        ImageError, match=r"a\.tif is not an image that GDAL can open, or it is damaged or cut"
    ):
        xt.open_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("striped.tif", {}),
        ("tiled.tif", TILED),
        ("deflate.tif", {**TILED, "compress": "deflate"}),
        ("jpeg.tif", {**TILED, "compress": "jpeg"}),
        ("a.png", {"driver": "PNG"}),
        ("a.jpg", {"driver": "JPEG"}),
        ("a.jp2", {"driver": "JP2OpenJPEG"}),
    ],
)
def test_pixels_cut_off_are_an_error_not_black(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = cut(write_raster(tmp_path / name, smooth(700, 700), **options), 0.6)
    with (
        xt.open_image(path) as image,
        pytest.raises(
            ImageError, match=rf"{name} is damaged or cut off: rows \d+ to 700 and columns .* level 0"
        ),
    ):
        image.read(600, 600, 100, 100)


def test_after_an_error_other_windows_are_read(tmp_path: Path) -> None:
    pixels = smooth(700, 700)
    path = cut(write_raster(tmp_path / "a.tif", pixels, **TILED), 0.6)
    with xt.open_image(path) as image:
        for _ in range(3):
            with pytest.raises(ImageError, match="rows 600 to 700"):
                image.read(600, 600, 100, 100)
            np.testing.assert_array_equal(image.read(0, 0, 100, 100), pixels[:100, :100])


def test_gdals_cache_holds_a_row_of_blocks_and_no_more(tmp_path: Path) -> None:
    code = f"""
import numpy as np, rasterio, xt
from rasterio.env import get_gdal_config
profile = dict(driver="GTiff", count=1, dtype="uint8", tiled=True, blockxsize=512, blockysize=512, sparse_ok=True)
profile |= dict(height=600, transform=rasterio.Affine(2, 0, 0, 0, -2, 0))
folder = {str(tmp_path)!r}
for width in (1_000, 60_000, 900_000):
    with rasterio.open(f"{{folder}}/{{width}}.tif", "w", width=width, **profile):
        pass
for width in (1_000, 60_000, 900_000, 1_000):
    with xt.open_image(f"{{folder}}/{{width}}.tif") as image, rasterio.Env():
        image.read(0, 0, 8, 8)
    print(get_gdal_config("GDAL_CACHEMAX"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    sizes = [int(line) for line in done.stdout.split()]
    # Never narrower than for the widest image so far.
    assert sizes == [16 * 2**20, 118 * 512 * 512 * 5 // 4, 128 * 2**20, 128 * 2**20]


def test_threads_that_open_leave_warnings_alone(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(40, 50))
    before = list(warnings.filters)

    def work(_: int) -> None:
        with xt.open_image(path) as image:
            image.read(0, 0, 8, 8)

    # Warnings are errors here: rasterio's about missing coordinates would be raised.
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
    assert warnings.filters == before


def test_goes_to_other_processes(tmp_path: Path) -> None:
    import pickle

    pixels = smooth(40, 50)
    with xt.open_image(write_raster(tmp_path / "a.tif", pixels), nodata=3) as image:
        image.read(0, 0, 4, 4)
        with pickle.loads(pickle.dumps(image)) as copy:
            assert copy.nodata == 3
            np.testing.assert_array_equal(copy.read(0, 0, 40, 50), pixels)
