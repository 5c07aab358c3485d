"""Files that say a resolution or a place which cannot be have none."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from rasterio.transform import Affine

import xt
from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import planes, write_ome_tiff, write_ome_zarr
from xt.errors import ConfigError
from xt.images import LargeImage, tile
from xt.images.slide import SlideImage, _microns_per_pixel

NONE = [0.0, -0.5, float("inf"), float("nan"), 1e-320, 1e300]


def resolution_tags(path: Path, x: tuple[int, int], y: tuple[int, int]) -> Path:
    """A slide whose resolution tags are these fractions, put into the file as a broken program does."""
    write_slide(path, smooth(128, 128), levels=1, square=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, fraction in (("XResolution", x), ("YResolution", y)):
            tag = file.pages[0].tags[name]  # type: ignore[union-attr]
            file.filehandle.seek(tag.valueoffset)
            file.filehandle.write(struct.pack(file.byteorder + "II", *fraction))
    return path


def refuses_any(image: LargeImage) -> bool:
    with pytest.raises(
        ConfigError, match=r"does not say how many micrometres a pixel is; set image\.microns"
    ):
        image.at_resolution(microns_per_pixel=1)
    return image.microns_per_pixel is None


@pytest.mark.parametrize(
    ("x", "y"), [((1, 0), (1, 0)), ((0, 0), (0, 0)), ((0, 1), (20_000, 1)), ((20_000, 1), (1, 0))]
)
def test_resolution_tags(x: tuple[int, int], y: tuple[int, int], tmp_path: Path) -> None:
    path = resolution_tags(tmp_path / "a.tif", x, y)
    with xt.open_image(path) as image:
        assert refuses_any(image)
    written = tmp_path / "tiled.tif"
    tile(path, written)
    with xt.open_image(written) as image:
        assert refuses_any(image)
        np.testing.assert_array_equal(image.read(0, 0, 128, 128), smooth(128, 128))
    with tifffile.TiffFile(written) as file:
        assert not {"XResolution", "YResolution"} & {tag.name for tag in file.pages[0].tags}  # type: ignore[union-attr]


@pytest.mark.parametrize("length", ["INF", "-INF", "NaN", "0", "-0.5", "1e-320", "what"])
@pytest.mark.parametrize("side", ["X", "Y"])
def test_ome_tiff(length: str, side: str, tmp_path: Path) -> None:
    microns: dict[str, Any] = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, f"PhysicalSize{side}": length}
    path = write_ome_tiff(tmp_path / "a.ome.tif", planes(1, 64, 80), "CYX", microns=microns)
    with xt.open_image(path) as image:
        assert refuses_any(image)


@pytest.mark.parametrize("length", [0.0, -1.0, "Infinity", "NaN"])
def test_ome_zarr(length: Any, tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", planes(1, 64, 80), "cyx")
    notes = json.loads((path / ".zattrs").read_text())
    scale = notes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    scale[2] = float(length)
    (path / ".zattrs").write_text(json.dumps(notes))
    with xt.open_image(path) as image:
        assert refuses_any(image)


@pytest.mark.parametrize("length", ["0", "inf", "nan", "-0.25", "1e400", "", "0,25"])
def test_openslide_properties(length: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": length}
    monkeypatch.setattr(
        "xt.images.slide._microns_per_pixel", lambda _: _microns_per_pixel(properties), raising=True
    )
    with SlideImage(write_slide(tmp_path / "a.tif", smooth(128, 128), levels=1)) as image:
        assert refuses_any(image)


@pytest.mark.parametrize("length", NONE)
def test_what_a_user_sets(length: float) -> None:
    image = xt.open_image(smooth(32, 32))
    image.microns_per_pixel = (0.5, length)
    with pytest.raises(ConfigError, match="does not say how many micrometres a pixel is"):
        image.at_resolution(microns_per_pixel=1)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0, 0, 500_000, 0, 0, 4_000_000),
        Affine(10, 0, 500_000, 0, 0, 4_000_000),
        Affine(0, 0, 500_000, 0, -10, 4_000_000),
        Affine(10, 10, 500_000, 10, 10, 4_000_000),
        Affine(float("nan"), 0, 500_000, 0, -10, 4_000_000),
        Affine(10, 0, float("inf"), 0, -10, 4_000_000),
    ],
    ids=["no area", "no height", "no width", "one direction", "nan", "inf"],
)
def test_a_place_where_pixels_have_no_area(transform: Affine, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(32, 32, 1), crs="EPSG:32632")
    text = ", ".join(str(number) for number in transform.to_gdal())
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="32" rasterYSize="32"><SRS>EPSG:32632</SRS><GeoTransform>{text}</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">'
        f"{path.name}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with xt.open_image(vrt) as image:
        assert image.transform is None
        with pytest.raises(ConfigError, match="does not say how many map units a pixel is; it has no coord"):
            image.at_resolution(map_units_per_pixel=10)
    with xt.open_image(path) as image:
        image.transform = tuple(transform)[:6]
        with pytest.raises(ConfigError, match="does not say how many map units"):
            image.at_resolution(map_units_per_pixel=20)
