import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import rasterio
from PIL import Image, ImageCms
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

import xt
from tests.images.files import TRANSFORM, raster_pixels, set_orientation, smooth, write_raster, write_slide
from tests.shared_data import shared_data
from xt.errors import ConfigError, DataWarning, ImageError, OutputError
from xt.images import tile
from xt.images.conversion import Notes
from xt.images.conversion import tile as tile_with_options
from xt.images.orientation import Upright
from xt.images.raster import RasterImage


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


def opened(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


RPCS = RPC(
    height_off=10.0, height_scale=500.0, lat_off=34.0, lat_scale=0.1, long_off=-118.0, long_scale=0.1, line_off=20.0,
    line_scale=35.0, samp_off=30.0, samp_scale=40.0, line_num_coeff=[0.0, 0.0, -1.0] + [0.0] * 17,
    line_den_coeff=[1.0] + [0.0] * 19, samp_num_coeff=[0.0, 1.0] + [0.0] * 18, samp_den_coeff=[1.0] + [0.0] * 19,
    err_bias=-1.0, err_rand=-1.0,
)  # fmt: skip


def write_with_notes(path: Path, **options: Any) -> Path:
    write_raster(path, smooth(60, 70, 3, "int16"), nodata=-1000, **options)
    with opened(path) as dataset:
        profile = dataset.profile
        pixels = dataset.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(pixels)
            dataset.scales, dataset.offsets, dataset.units = (
                (1e-4, 2.0, 1.0),
                (1000.0, 0.0, -0.5),
                ("m", "", "K"),
            )
            dataset.descriptions = ("Green", None, "Thermal")
            dataset.colorinterp = [ColorInterp.green, ColorInterp.undefined, ColorInterp.undefined]
            dataset.update_tags(
                TIFFTAG_SOFTWARE="made by a test", mission="Ours = theirs", AREA_OR_POINT="Point"
            )
            dataset.update_tags(1, wavelength="560 nm", STATISTICS_MEAN="7")
            dataset.update_tags(3, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="10.9")
            dataset.rpcs = RPCS
    return path


def test_what_a_file_says_of_its_pixels_is_kept(tmp_path: Path) -> None:
    source = write_with_notes(tmp_path / "a.tif", crs="EPSG:32611", transform=TRANSFORM)
    tile(source, tmp_path / "b.tif")
    with opened(source) as before, opened(tmp_path / "b.tif") as after:
        for said in (
            "scales",
            "offsets",
            "units",
            "descriptions",
            "colorinterp",
            "nodatavals",
            "transform",
            "crs",
        ):
            assert getattr(after, said) == getattr(before, said), said
        assert after.tags() == before.tags()
        assert after.tags(1) == before.tags(1)
        assert after.tags(3, ns="IMAGERY") == before.tags(3, ns="IMAGERY")
        # Polynomials beside a transform.
        assert after.rpcs.to_dict() == before.rpcs.to_dict()


def test_polynomials_alone_and_those_of_a_part(tmp_path: Path) -> None:
    source = write_with_notes(tmp_path / "a.tif")
    with xt.open_image(source) as image:
        tile(image, tmp_path / "b.tif")
        tile(image.crop(5, 7, 40, 50), tmp_path / "c.tif")
    with opened(tmp_path / "b.tif") as whole, opened(tmp_path / "c.tif") as part:
        assert whole.rpcs.to_dict() == RPCS.to_dict()
        assert (part.rpcs.line_off, part.rpcs.samp_off) == (15.0, 23.0)
        assert part.scales == (1e-4, 2.0, 1.0)
        # Those of other pixels.
        assert part.tags(1) == {"wavelength": "560 nm"}


def test_what_a_tiled_file_has_no_place_for_is_said(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", smooth(60, 70, 1), colors={3: (9, 8, 7, 255)})
    other = write_raster(tmp_path / "o.tif", smooth(60, 70, 1))
    with opened(other) as dataset:
        profile = dataset.profile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(other, "w", **profile) as dataset:
            dataset.write(smooth(60, 70, 1).transpose(2, 0, 1))
            dataset.update_tags(ns="CAMERA", lens="35 mm")
    with pytest.warns(
        DataWarning, match=r"b\.tif has all pixels of .*o\.tif, but .* metadata in the domain CAMERA$"
    ):
        tile(other, tmp_path / "b.tif")
    with pytest.warns(DataWarning, match=r"no place for: colour tables of band 1$"):
        tile([source, other], tmp_path / "both.tif")
    np.testing.assert_array_equal(raster_pixels(tmp_path / "b.tif"), smooth(60, 70, 1))


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_palette_of_either_size(kind: str, tmp_path: Path) -> None:
    pixels = (smooth(600, 700, 1) % 4).astype(kind)
    colors = {0: (0, 0, 0, 0), 1: (255, 0, 0, 255), 2: (0, 255, 0, 255), 3: (9, 8, 7, 255)}
    source = write_raster(tmp_path / "a.tif", pixels, colors)
    tile(source, tmp_path / "b.tif")
    with opened(source) as before, opened(tmp_path / "b.tif") as after:
        assert after.colormap(1) == before.colormap(1)
        assert after.colorinterp[0].name == "palette"


def test_the_text_of_a_camera_is_kept_and_no_longer_turns(tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(smooth(50, 70))
    text = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="a = b"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, exif=exif, xmp=text.encode())
    tile(tmp_path / "a.jpg", tmp_path / "b.tif")
    with xt.open_image(tmp_path / "a.jpg") as before, xt.open_image(tmp_path / "b.tif") as after:
        assert (before.orientation, after.orientation, after.shape) == (6, 1, (70, 50))
        np.testing.assert_array_equal(after.read(0, 0, 70, 50), before.read(0, 0, 70, 50))
    with opened(tmp_path / "b.tif") as dataset:
        assert dataset.tags()["EXIF_Make"] == "Maker"
        assert "EXIF_Orientation" not in dataset.tags()
        assert dataset.tags(ns="xml:XMP")["xml:XMP"] == text.replace('Orientation="6"', 'Orientation="1"')
    with Image.open(tmp_path / "b.tif") as picture:
        assert picture.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("kind", ["a.tif", "a.png"])
def test_the_colour_profile_is_kept(kind: str, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth(50, 70)).save(tmp_path / kind, icc_profile=profile)
    tile(tmp_path / kind, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as picture:
        assert picture.info["icc_profile"] == profile


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_written_upright(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several strips, of rows or of columns.
    monkeypatch.setattr("xt.images.conversion._ROWS_BYTES", 32 * 3 * 700)
    source = write_raster(tmp_path / "a.tif", smooth(600, 700), crs="EPSG:32611", transform=TRANSFORM)
    set_orientation(source, orientation)
    tile(source, tmp_path / "b.tif")
    with xt.open_image(source) as before, xt.open_image(tmp_path / "b.tif") as after:
        assert (after.orientation, after.shape, after.transform) == (1, before.shape, before.transform)
        np.testing.assert_array_equal(after.read(0, 0, *after.shape), before.read(0, 0, *before.shape))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_read_in_the_order_in_which_they_are_stored(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt.images.conversion._ROWS_BYTES", 32 * 3 * 700)
    source = write_raster(tmp_path / "a.tif", smooth(200, 700))
    set_orientation(source, orientation)
    with xt.open_image(source) as image:
        assert isinstance(image, RasterImage | Upright)
        stored = image.image if isinstance(image, Upright) else image
        seen: list[tuple[int, ...]] = []
        read = type(stored)._read
        monkeypatch.setattr(
            type(stored), "_read", lambda self, *window: seen.append(window) or read(self, *window)
        )
        tile(image, tmp_path / "b.tif")
    tops = [window[0] for window in seen[-7:]]
    assert tops == sorted(set(tops))
    assert {window[3] for window in seen[-7:]} == {700}


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
