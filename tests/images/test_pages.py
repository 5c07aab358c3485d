"""TIFFs of several pages: as tifffile reads them, or with a word about what is not shown."""

import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

import xt
from tests.images.files import TRANSFORM, raster_pixels, smooth, write_raster
from tests.images.ome_files import planes
from xt.errors import ConfigError, DataWarning, ImageError
from xt.images import LargeImage, tile
from xt.images.raster import RasterImage
from xt.images.storage import is_reduced
from xt.testing.images import ImageContract

SHAPE = (64, 80)


def whole(image: LargeImage, level: int = 0) -> np.ndarray:
    return image.read(0, 0, *image.level_shapes[level], level)


def write_qptiff(path: Path, channels: int = 3, levels: int = 3, thumbnail: bool = True) -> list[np.ndarray]:
    """As Akoya's lie on disk: a page a channel, a thumbnail, a page a channel of each level, a picture of the label."""
    full = planes(channels, 512, 640, dtype="uint8")
    pyramid = [np.ascontiguousarray(full[:, :: 2**level, :: 2**level]) for level in range(levels)]
    options: dict[str, Any] = {"software": "PerkinElmer-QPI", "metadata": None, "compression": "zlib"}
    text = '<?xml version="1.0"?><PerkinElmer-QPI-ImageDescription><Name>{}</Name></PerkinElmer-QPI-ImageDescription>'
    with tifffile.TiffWriter(path) as file:
        for level, low in enumerate(pyramid):
            for number, page in enumerate(low):
                file.write(
                    page, tile=(64, 64), photometric="minisblack", subfiletype=int(level > 0),
                    description=text.format(f"dye {number}"), resolution=(20_000, 10_000), resolutionunit="CENTIMETER",
                    **options,
                )  # fmt: skip
            if level == 0 and thumbnail:
                file.write(smooth(100, 125), photometric="rgb", subfiletype=1, **options)
        if thumbnail:
            file.write(smooth(90, 90), photometric="rgb", subfiletype=9, **options)
    return [low.transpose(1, 2, 0) for low in pyramid]


class TestPages(ImageContract):
    @pytest.fixture
    def level_references(self, tmp_path: Path) -> list[np.ndarray]:
        return write_qptiff(tmp_path / "a.qptiff")

    @pytest.fixture
    def reference(self, level_references: list[np.ndarray]) -> np.ndarray:
        return level_references[0]

    @pytest.fixture
    def image(self, level_references: list[np.ndarray], tmp_path: Path):
        with xt.open_image(tmp_path / "a.qptiff") as image:
            yield image


@pytest.mark.parametrize("thumbnail", [False, True])
def test_the_pages_of_a_qptiff_are_its_channels(thumbnail: bool, tmp_path: Path) -> None:
    pyramid = write_qptiff(tmp_path / "a.qptiff", thumbnail=thumbnail)
    with xt.open_image(tmp_path / "a.qptiff") as image, pickle.loads(pickle.dumps(image)) as copy:
        assert image.name == copy.name == str(tmp_path / "a.qptiff")
        assert image.levels == (1.0, 2.0, 4.0)
        assert image.channel_names == ("dye 0", "dye 1", "dye 2")
        assert image.microns_per_pixel == pytest.approx((1.0, 0.5))
        for level, expected in enumerate(pyramid):
            np.testing.assert_array_equal(whole(copy, level), expected)


def test_the_thumbnail_of_a_single_channel_is_no_level(tmp_path: Path) -> None:
    pyramid = write_qptiff(tmp_path / "a.qptiff", channels=1)
    with xt.open_image(tmp_path / "a.qptiff") as image:
        assert (image.channels, image.levels) == (1, (1.0, 2.0, 4.0))
        np.testing.assert_array_equal(whole(image, 2), pyramid[2])


@pytest.mark.parametrize(
    "options", [{}, {"metadata": {"Labels": ["DAPI", "FITC", "Cy5"]}}, {"byteorder": "<"}]
)
def test_a_hyperstack_of_imagej(options: dict[str, Any], tmp_path: Path) -> None:
    pixels = planes(3, *SHAPE)
    metadata = {"axes": "CYX", "unit": "um", **options.get("metadata", {})}
    options = {**options, "metadata": metadata}
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(2.0, 4.0), **options)
    with xt.open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(whole(image), pixels.transpose(1, 2, 0))
        assert image.channel_names == (tuple(metadata["Labels"]) if "Labels" in metadata else None)
        assert image.microns_per_pixel == pytest.approx((0.25, 0.5))


def test_planes_of_a_hyperstack_are_chosen_or_told(tmp_path: Path) -> None:
    pixels = planes(2, 4, 3, *SHAPE)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TZCYX"})
    said = r"a\.tif: the first of 2 time points is read; time=1 is the second; the first of 4 focal planes is read; z=1"
    with pytest.warns(DataWarning, match=said), xt.open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(whole(image), pixels[0, 0].transpose(1, 2, 0))
    with xt.open_image(tmp_path / "a.tif", time=1, z=2) as image:
        np.testing.assert_array_equal(whole(image), pixels[1, 2].transpose(1, 2, 0))
    with pytest.raises(ConfigError, match="has 4 focal planes, so z is 0 to 3, not 4"):
        xt.open_image(tmp_path / "a.tif", z=4)


@pytest.mark.parametrize(
    ("order", "kind"), [("<", "uint16"), (">", "uint16"), (">", "float32"), ("<", "uint8")]
)
def test_pixels_in_a_row_behind_one_directory(order: str, kind: str, tmp_path: Path) -> None:
    """As ImageJ writes more than 4 GB."""
    pixels = planes(3, *SHAPE).astype(kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"}, byteorder=order)
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    struct.pack_into(order + "I", content, start + 2 + 12 * count, 0)
    path.write_bytes(content)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    with xt.open_image(path) as image:
        np.testing.assert_array_equal(whole(image), pixels.transpose(1, 2, 0))
        np.testing.assert_array_equal(image.read(7, 9, 11, 13), pixels[:, 7:18, 9:22].transpose(1, 2, 0))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.tiff"])
def test_plain_pages_of_one_size_and_type_are_channels(name: str, tmp_path: Path) -> None:
    pixels = planes(4, *SHAPE)
    with tifffile.TiffWriter(tmp_path / name, ome=False) as file:
        for page, label in zip(pixels, ("blue", "green", "red", "nir"), strict=True):
            tag = (285, 2, len(label) + 1, label, True)
            file.write(page, metadata=None, tile=(32, 32), compression="zlib", extratags=[tag])
    with xt.open_image(tmp_path / name) as image:
        np.testing.assert_array_equal(whole(image), pixels.transpose(1, 2, 0))
        assert image.channel_names == ("blue", "green", "red", "nir")
        assert image.storage.block == (32, 32)
        assert image.driver == "GTiff"
    tile(tmp_path / name, tmp_path / "t.tif")
    np.testing.assert_array_equal(raster_pixels(tmp_path / "t.tif"), pixels.transpose(1, 2, 0))


def test_a_stack_of_tifffiles(tmp_path: Path) -> None:
    pixels = planes(3, 2, *SHAPE)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": "ZCYX"}, photometric="minisblack")
    with (
        pytest.warns(DataWarning, match="the first of 3 focal planes"),
        xt.open_image(tmp_path / "a.tif") as image,
    ):
        np.testing.assert_array_equal(whole(image), pixels[0].transpose(1, 2, 0))


def test_pictures_in_colour_are_images_of_their_own(tmp_path: Path) -> None:
    pixels = np.stack([smooth(*SHAPE, seed=seed) for seed in range(3)])
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pixels:
            file.write(page, metadata=None, photometric="rgb")
    said = r"a\.tif: the first of 3 pictures is read; series=1 is the second"
    with pytest.warns(DataWarning, match=said), xt.open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(whole(image), pixels[0])
    with xt.open_image(tmp_path / "a.tif", series=2) as image:
        np.testing.assert_array_equal(whole(image), pixels[2])
    with pytest.raises(ConfigError, match="has 3 images, so series is 0 to 2, not 3"):
        xt.open_image(tmp_path / "a.tif", series=3)


def test_a_larger_image_behind_the_first_is_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth(20, 30), metadata=None, photometric="rgb")
        file.write(planes(*SHAPE), metadata=None)
    said = "the first of 2 images of different kinds is read; another is series=1"
    with pytest.warns(DataWarning, match=said), xt.open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(whole(image), smooth(20, 30))
    with xt.open_image(tmp_path / "a.tif", series=1) as image:
        np.testing.assert_array_equal(whole(image)[..., 0], planes(*SHAPE))


def test_levels_below_each_page(tmp_path: Path) -> None:
    pixels = planes(3, *SHAPE)
    options: dict[str, Any] = {"tile": (16, 16), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pixels:
            file.write(page, subifds=2, **options)
            for step in (2, 4):
                file.write(np.ascontiguousarray(page[::step, ::step]), subfiletype=1, **options)
    with xt.open_image(tmp_path / "a.tif") as image:
        assert image.levels == (1.0, 2.0, 4.0)
        for level in range(3):
            low = pixels[:, :: 2**level, :: 2**level]
            np.testing.assert_array_equal(whole(image, level), low.transpose(1, 2, 0))


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_file_that_was_cut_off_has_not_fewer_channels(bigtiff: bool, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff) as file:
        for page in planes(4, *SHAPE):
            file.write(page, metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ImageError, match=r"a\.tif is damaged or cut off: it has more pages than the [23]"):
        xt.open_image(tmp_path / "a.tif")


def test_pages_of_a_map_keep_their_place(tmp_path: Path) -> None:
    pixels = smooth(*SHAPE, 2, "int16")
    for band in range(2):
        options = {"crs": "EPSG:32611", "transform": TRANSFORM, "nodata": -9}
        write_raster(tmp_path / f"{band}.tif", pixels[..., band : band + 1], **options)
    with rasterio.open(tmp_path / "0.tif") as first:
        profile = {**first.profile, "APPEND_SUBDATASET": True}
    (tmp_path / "0.tif").rename(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as dataset:
        dataset.write(pixels[..., 1], 1)
    with xt.open_image(tmp_path / "a.tif") as image:
        assert (image.channels, image.nodata, image.crs) == (2, -9, "EPSG:32611")
        assert image.transform == tuple(TRANSFORM)[:6]
        np.testing.assert_array_equal(whole(image), pixels)


@pytest.mark.parametrize(
    ("low", "is_level"),
    [((50, 40), True), ((25, 20), True), ((34, 27), True), ((100, 80), False), ((40, 50), False), ((50, 50), False),
     ((100, 40), False), ((200, 160), False), ((1, 1), True)],
)  # fmt: skip
def test_a_level_is_smaller_and_of_the_same_form(low: tuple[int, int], is_level: bool) -> None:
    assert is_reduced((100, 80), low) == is_level
    assert is_reduced((1, 1000), (1, 500))


def test_a_picture_of_the_label_is_no_level_of_the_slide(tmp_path: Path) -> None:
    """In a scanner's file that GDAL reads: the label is marked as reduced, and as wide as high."""
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth(128, 200), tile=(64, 64), **options)
        file.write(smooth(60, 60), subfiletype=1, **options)
        file.write(np.ascontiguousarray(smooth(128, 200)[::2, ::2]), tile=(64, 64), subfiletype=1, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif") as dataset:
            assert len(dataset.overviews(1)) == 2
    with RasterImage(tmp_path / "a.tif") as image:
        assert image.level_shapes == ((128, 200), (64, 100))
        np.testing.assert_array_equal(whole(image, 1), smooth(128, 200)[::2, ::2])


def test_descriptions_in_latin_1_are_read(tmp_path: Path) -> None:
    pixels = smooth(96, 80, 3, "uint16")
    said = b"ImageJ=1.46\nimages=3\nchannels=3\nhyperstack=true\nunit=\xb5m\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for channel in range(3):
            page = np.ascontiguousarray(pixels[..., channel])
            file.write(page, description=None if channel else said, metadata=None)
    with xt.open_image(tmp_path / "a.tif") as image:
        assert np.array_equal(image.read(0, 0, 96, 80), pixels)


def test_pages_that_lead_back_to_each_other_are_not_followed_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, smooth(96, 80, 3, "uint16").transpose(2, 0, 1), imagej=True, metadata={"axes": "CYX"}
    )
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    (second,) = struct.unpack_from("<I", content, first + 2 + 12 * entries)
    (entries,) = struct.unpack_from("<H", content, second)
    struct.pack_into("<I", content, second + 2 + 12 * entries, first)
    path.write_bytes(bytes(content))
    with (
        pytest.warns(DataWarning, match="several pages, of which the first is read, as what they are cannot"),
        xt.open_image(path) as image,
    ):
        assert image.shape == (96, 80)
