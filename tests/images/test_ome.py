"""OME-TIFF and OME-Zarr, against tifffile and zarr themselves."""

import functools
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import xt
from tests.images.files import smooth, write_raster
from tests.images.ome_files import planes, write_ome_tiff, write_ome_zarr
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError
from xt.images import LargeImage
from xt.images.ome_tiff import OmeTiffImage
from xt.images.ome_zarr import OmeZarrImage
from xt.images.raster import RasterImage
from xt.testing.images import ImageContract


class OmeContract(ImageContract):
    """What both have: two channels in three levels of 149 x 163, stored by channel."""

    pixels = planes(2, 149, 163)

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return self.pixels.transpose(1, 2, 0)

    @pytest.fixture
    def level_references(self, reference: np.ndarray) -> list[np.ndarray]:
        return [reference[:: 2**level, :: 2**level] for level in range(3)]

    def test_says_its_names_and_resolution(self, image: LargeImage) -> None:
        assert image.channel_names == ("DAPI", "TRITC")
        assert image.microns_per_pixel == pytest.approx((0.25, 0.5))
        assert len(image.levels) == 3

    def test_goes_to_other_processes(self, image: LargeImage, reference: np.ndarray) -> None:
        image.read(0, 0, 4, 4)
        with pickle.loads(pickle.dumps(image)) as copy:
            np.testing.assert_array_equal(copy.read(0, 0, *copy.shape), reference)


class TestOmeTiff(OmeContract):
    @pytest.fixture
    def image(self, tmp_path: Path) -> Iterator[LargeImage]:
        path = write_ome_tiff(tmp_path / "a.ome.tif", self.pixels, "CYX", levels=3, names=["DAPI", "TRITC"])
        with xt.open_image(path) as image:
            assert isinstance(image, OmeTiffImage)
            yield image


@pytest.mark.parametrize("version", ["0.4", "0.5"])
class TestOmeZarr(OmeContract):
    @pytest.fixture
    def image(self, tmp_path: Path, version: str) -> Iterator[LargeImage]:
        path = write_ome_zarr(
            tmp_path / "a.ome.zarr", self.pixels, "cyx", version=version, levels=3, names=["DAPI", "TRITC"]
        )
        with xt.open_image(path) as image:
            assert isinstance(image, OmeZarrImage)
            yield image


class TestShardedOmeZarr(OmeContract):
    @pytest.fixture
    def image(self, tmp_path: Path) -> Iterator[LargeImage]:
        path = write_ome_zarr(
            tmp_path / "a.zarr", self.pixels, "cyx", version="0.5", levels=3, names=["DAPI", "TRITC"],
            chunks=(1, 16, 32), shards=(2, 64, 64),
        )  # fmt: skip
        with xt.open_image(path) as image:
            assert image.storage.block == (16, 32)
            yield image


@functools.cache
def real_levels(name: str) -> list[np.ndarray]:
    path = shared_data(f"ome_made_here/{name}")
    if path.is_dir():
        group = zarr.open_group(path, mode="r")
        return [np.asarray(group[str(level)]).transpose(1, 2, 0) for level in range(4)]
    with tifffile.TiffFile(path) as file:
        return [level.asarray().transpose(1, 2, 0) for level in file.series[0].levels]


@pytest.mark.parametrize("name", ["section.ome.tif", "section.ome.zarr"])
class TestRealPyramid(ImageContract):
    @pytest.fixture
    def image(self, name: str) -> Iterator[LargeImage]:
        with xt.open_image(shared_data(f"ome_made_here/{name}")) as image:
            yield image

    @pytest.fixture
    def level_references(self, name: str) -> list[np.ndarray]:
        return real_levels(name)

    @pytest.fixture
    def reference(self, name: str) -> np.ndarray:
        return real_levels(name)[0]

    def test_says_its_names_and_resolution(self, image: LargeImage) -> None:
        assert image.channel_names == ("DAPI", "TRITC")
        assert image.microns_per_pixel == pytest.approx((0.22817506, 0.22817506))


class TestRealSeries(ImageContract):
    """Big-endian 8-bit integers with a sign, in strips, seven time points of five planes."""

    @pytest.fixture
    def image(self) -> Iterator[LargeImage]:
        with xt.open_image(shared_data("ome_tiff_4d_series/4D-series.ome.tiff"), time=6, z=3) as image:
            yield image

    @pytest.fixture
    def reference(self) -> np.ndarray:
        pixels = tifffile.imread(shared_data("ome_tiff_4d_series/4D-series.ome.tiff"))
        return pixels[6, 3, :, :, np.newaxis]


LAYOUTS = {
    "TZCYX": (3, 2, 4, 60, 70),
    "CZTYX": (4, 2, 3, 60, 70),
    "ZYX": (5, 60, 70),
    "YX": (60, 70),
    "TYXS": (3, 60, 70, 3),
    "CYXS": (2, 60, 70, 3),
    "SYX": (3, 60, 70),
}


@pytest.mark.parametrize("axes", LAYOUTS)
def test_time_points_and_planes_of_a_tiff(tmp_path: Path, axes: str) -> None:
    pixels = planes(*LAYOUTS[axes], dtype="uint8")
    rgb = {"photometric": "rgb", "planarconfig": "contig" if axes[-1] == "S" else "separate"}
    path = write_ome_tiff(
        tmp_path / "a.ome.tiff", pixels, axes, **(rgb if "S" in axes else {"photometric": "minisblack"})
    )
    for time in range(3 if "T" in axes else 1):
        for z in range(LAYOUTS[axes][axes.index("Z")] if "Z" in axes else 1):
            chosen = pixels[tuple({"T": time, "Z": z}.get(axis, slice(None)) for axis in axes)]
            left = "".join(axis for axis in axes if axis not in "TZ")
            order = [left.index(axis) for axis in "YXCS" if axis in left]
            expected = chosen.transpose(order).reshape(60, 70, -1)
            with xt.open_image(path, time=time, z=z) as image:
                np.testing.assert_array_equal(image.read(0, 0, 60, 70), expected)


@pytest.mark.parametrize("axes", ["tczyx", "zcyx", "tyx", "yx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_time_points_and_planes_of_a_zarr(tmp_path: Path, axes: str, version: str) -> None:
    sizes = {"t": 3, "c": 4, "z": 2, "y": 60, "x": 70}
    pixels = planes(*(sizes[axis] for axis in axes), dtype="float32")
    # Chunks that hold several planes and channels.
    chunks = tuple({"y": 32, "x": 30, "c": 3}.get(axis, 2) for axis in axes)
    path = write_ome_zarr(tmp_path / "a.zarr", pixels, axes, version=version, chunks=chunks)
    for time in range(3 if "t" in axes else 1):
        for z in range(2 if "z" in axes else 1):
            chosen = pixels[tuple({"t": time, "z": z}.get(axis, slice(None)) for axis in axes)]
            expected = chosen.reshape(-1, 60, 70).transpose(1, 2, 0)
            with xt.open_image(path, time=time, z=z) as image:
                np.testing.assert_array_equal(image.read(0, 0, 60, 70), expected)


def test_two_time_points_are_stacked(tmp_path: Path) -> None:
    pixels = planes(2, 60, 70)
    path = write_ome_tiff(tmp_path / "a.ome.tif", pixels, "TYX")
    with xt.stack([xt.open_image(path, time=time) for time in range(2)], ["before", "after"]) as image:
        np.testing.assert_array_equal(image.read(0, 0, 60, 70), pixels.transpose(1, 2, 0))
        assert image.channel_names == ("before", "after")


def test_several_images_in_one_file(tmp_path: Path) -> None:
    first, second = planes(40, 50), planes(2, 30, 35)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(first, metadata={"axes": "YX"})
        file.write(
            second, metadata={"axes": "CYX", "Channel": {"Name": ["a", "b"]}}, photometric="minisblack"
        )
    with xt.open_image(tmp_path / "a.ome.tif", series=1) as image:
        np.testing.assert_array_equal(image.read(0, 0, 30, 35), second.transpose(1, 2, 0))
        assert image.channel_names == ("a", "b")
        assert image.microns_per_pixel is None
    with pytest.raises(ConfigError, match="has 2 images, so series is 0 to 1, not 2"):
        xt.open_image(tmp_path / "a.ome.tif", series=2)
    # As bioformats2raw writes it.
    root = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for number, (pixels, axes) in enumerate(((first, "yx"), (second, "cyx"))):
        write_ome_zarr(tmp_path / "b.zarr" / str(number), pixels, axes)
    with xt.open_image(tmp_path / "b.zarr", series=1) as image:
        np.testing.assert_array_equal(image.read(0, 0, 30, 35), second.transpose(1, 2, 0))
    with pytest.raises(ConfigError, match=r"b\.zarr has 2 images, so series is 0 to 1, not 5"):
        xt.open_image(tmp_path / "b.zarr", series=5)


def test_a_tiff_is_ome_by_what_it_says(tmp_path: Path) -> None:
    pixels = planes(3, 60, 70)
    path = write_ome_tiff(tmp_path / "a.ome.tif", pixels, "CYX", photometric="minisblack")
    renamed = path.rename(tmp_path / "scan.tif")
    with xt.open_image(renamed) as image:
        np.testing.assert_array_equal(image.read(0, 0, 60, 70), pixels.transpose(1, 2, 0))
    plain = write_raster(tmp_path / "plain.tif", smooth(60, 70))
    with xt.open_image(plain) as image:
        assert type(image) is RasterImage
    with pytest.raises(
        ConfigError, match=r"plain\.tif is neither OME-TIFF nor OME-Zarr: .*time, z and series stay 0"
    ):
        xt.open_image(plain, z=1)
    misnamed = plain.rename(tmp_path / "plain.ome.tif")
    with pytest.raises(
        ImageError, match=r"plain\.ome\.tif is named OME-TIFF but has no description of OME's"
    ):
        xt.open_image(misnamed)
