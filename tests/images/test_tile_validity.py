"""What is missing stays missing in tiled pyramids, at all levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

import xt
from tests.images.files import raster_pixels, raster_validity, smooth, write_raster
from xt.errors import DataWarning
from xt.images import tile
from xt.images.conversion import tile as tile_with_options

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
# Of which each level has half of the one before, exactly.
HEIGHT, WIDTH = 1088, 1296
LEVELS = 3


def blob(seed: int = 0) -> np.ndarray:
    """A mask in pieces of 40 pixels, so that whole pixels of each level lie in one."""
    coarse = np.random.default_rng(seed).random((-(-HEIGHT // 40), -(-WIDTH // 40))) > 0.4
    return np.kron(coarse, np.ones((40, 40), bool))[:HEIGHT, :WIDTH]


def pixels(channels: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Even, so that means over what is there are seen not to mix in what is not."""
    values = np.zeros((HEIGHT, WIDTH, channels), dtype)
    values[blob()] = 100
    return values


def masked(path: Path, channels: int = 3, dtype: str = "uint8", **options: Any) -> Path:
    write_raster(path, pixels(channels, dtype), **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(blob())
    return path


def with_alpha(path: Path, channels: int = 3, dtype: str = "uint8", driver: str = "GTiff") -> Path:
    values = np.concatenate([pixels(channels, dtype), blob()[..., None] * np.array(77, dtype)], axis=-1)
    options = {"alpha": "YES", "photometric": "RGB" if channels == 3 else "MINISBLACK"}
    return write_raster(path, values, driver=driver, **({} if driver == "PNG" else options))


def assert_missing(path: Path, channels: int) -> None:
    """GDAL and we say of every level that it is missing where the scene is, and colours are not mixed."""
    with xt.open_image(path) as image:
        assert image.channels == channels
        assert len(image.levels) == LEVELS
        for level in range(LEVELS):
            read, valid = image.read_valid(0, 0, *image.level_shapes[level], level=level)
            np.testing.assert_array_equal(valid, raster_validity(path, level))
            expected = blob()[:: 2**level, :: 2**level]
            np.testing.assert_array_equal(valid[..., 0], expected)
            assert (valid == valid[..., :1]).all()
            assert (read[valid] == 100).all()


@pytest.mark.parametrize(
    ("name", "kind", "channels"),
    [
        ("mask", lambda path: masked(path), 3),
        ("mask of 16 bits", lambda path: masked(path, 5, "uint16"), 5),
        ("mask of floats", lambda path: masked(path, 2, "float32"), 2),
        ("RGBA", lambda path: with_alpha(path), 3),
        ("grey and alpha", lambda path: with_alpha(path, 1), 1),
        ("RGBA of 16 bits", lambda path: with_alpha(path, 3, "uint16"), 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_missing_stays_missing(name: str, kind: Any, channels: int, tmp_path: Path) -> None:
    source = kind(tmp_path / "a.tif")
    tile(source, tmp_path / "b.tif")
    assert_missing(tmp_path / "b.tif", channels)
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif"), raster_pixels(source))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("b")) == ["b.tif"]


def test_a_png_with_alpha(tmp_path: Path) -> None:
    tile(with_alpha(tmp_path / "a.png", driver="PNG"), tmp_path / "b.tif")
    assert_missing(tmp_path / "b.tif", 3)
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
        assert set(np.unique(dataset.read(4))) == {0, 77}


def test_jpeg_has_a_mask_for_alpha(tmp_path: Path) -> None:
    tile_with_options(with_alpha(tmp_path / "a.tif"), tmp_path / "b.tif", compression="jpeg")
    with xt.open_image(tmp_path / "b.tif") as image:
        assert image.channels == 3
        for level in range(LEVELS):
            _, valid = image.read_valid(0, 0, *image.level_shapes[level], level=level)
            expected = blob()[:: 2**level, :: 2**level]
            np.testing.assert_array_equal(valid[..., 0], expected)


def test_views_and_opened_images_keep_it(tmp_path: Path) -> None:
    with xt.open_image(with_alpha(tmp_path / "a.tif")) as image:
        tile(image, tmp_path / "b.tif")
        assert_missing(tmp_path / "b.tif", 3)
        tile(image.crop(3, 5, 100, 90).flip("x"), tmp_path / "c.tif")
    np.testing.assert_array_equal(raster_validity(tmp_path / "c.tif")[..., 2], blob()[3:103, 5:95][:, ::-1])


def virtual(
    folder: Path, first: np.ndarray, second: np.ndarray, values: tuple[float, float], dtype: str
) -> Path:
    bands = []
    for number, (band, value) in enumerate(zip((first, second), values, strict=True), start=1):
        write_raster(
            folder / f"{number}.tif", band[..., None].astype({"Byte": "uint8"}.get(dtype, dtype.lower()))
        )
        bands.append(
            f'<VRTRasterBand dataType="{dtype}" band="{number}"><NoDataValue>{value}</NoDataValue><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">{number}.tif</SourceFilename><SourceBand>1</SourceBand>'
            "</SimpleSource></VRTRasterBand>"
        )
    height, width = first.shape
    path = folder / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{"".join(bands)}</VRTDataset>')
    return path


@pytest.mark.parametrize("dtype", ["UInt16", "Int16", "Float32"])
def test_nodata_of_each_band(dtype: str, tmp_path: Path) -> None:
    """A TIFF has one nodata value for all: one that is free is found, of floats NaN."""
    first = smooth(60, 70, 1, "uint16", seed=1)[..., 0] % 200
    second = smooth(60, 70, 1, "uint16", seed=2)[..., 0] % 200 + 7
    source = virtual(tmp_path, first, second, (7, 8), dtype)
    tile(source, tmp_path / "b.tif")
    np.testing.assert_array_equal(raster_validity(tmp_path / "b.tif"), raster_validity(source))
    assert not raster_validity(source).all()
    valid = raster_validity(source)
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif")[valid], raster_pixels(source)[valid])


def test_what_no_value_is_free_for_is_said(tmp_path: Path) -> None:
    first = np.arange(256 * 2).reshape(16, 32) % 256
    source = virtual(tmp_path, first, np.roll(first, 5), (0, 255), "Byte")
    with pytest.warns(DataWarning, match=r"no place for: what is missing in some channels only \(4 pixels\)"):
        tile(source, tmp_path / "b.tif")
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif"), raster_pixels(source))


def test_a_stack_of_layers_with_alpha(tmp_path: Path) -> None:
    one = write_raster(tmp_path / "a.tif", smooth(60, 70, 4) // 2 * 2, alpha="YES", photometric="RGB")
    tile(f"{one}|{one}", tmp_path / "b.tif")
    with xt.open_image(tmp_path / "b.tif") as image, xt.open_image(one) as source:
        assert image.channels == 6
        valid = source.read_valid(0, 0, 60, 70)[1]
        np.testing.assert_array_equal(image.read_valid(0, 0, 60, 70)[1], np.concatenate([valid] * 2, axis=-1))
