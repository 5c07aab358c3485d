"""OME-TIFF and OME-Zarr, against tifffile and zarr themselves."""

import functools
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from zarr import codecs

import xt
from tests.images.files import smooth, write_raster
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, SlowImageWarning
from xt.images import LargeImage
from xt.images.ome import in_microns
from xt.images.ome_tiff import OmeTiffImage
from xt.images.ome_zarr import OmeZarrImage
from xt.images.raster import RasterImage
from xt.testing.images import ImageContract

MICRONS = {
    "PhysicalSizeX": 0.5,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.25e-3,
    "PhysicalSizeYUnit": "mm",
}


def planes(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels of any number of axes, no two alike."""
    flat = smooth(shape[-2], int(np.prod(shape)) // shape[-2], 1, dtype)
    return flat.reshape(shape)


def write_ome_tiff(
    path: Path, pixels: np.ndarray, axes: str, levels: int = 1, names: list[str] | None = None,
    microns: dict[str, Any] = MICRONS, **options: Any,
) -> Path:  # fmt: skip
    y, x = axes.index("Y"), axes.index("X")
    metadata = {"axes": axes, **microns, **({"Channel": {"Name": names}} if names else {})}
    options = {"tile": (32, 48), "compression": "zlib", **options}
    with tifffile.TiffWriter(path, ome=True, bigtiff=levels > 2) as file:
        file.write(pixels, metadata=metadata, subifds=levels - 1, **options)
        for level in range(1, levels):
            steps = [
                slice(None, None, 2**level) if axis in (y, x) else slice(None) for axis in range(pixels.ndim)
            ]
            file.write(np.ascontiguousarray(pixels[tuple(steps)]), subfiletype=1, **options)
    return path


def write_ome_zarr(
    path: Path, pixels: np.ndarray, axes: str, version: str = "0.4", levels: int = 1, names: list[str] | None = None,
    units: bool = True, chunks: tuple[int, ...] | None = None, **options: Any,
) -> Path:  # fmt: skip
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        steps = tuple(slice(None, None, 2**level) if axis in "yx" else slice(None) for axis in axes)
        low = pixels[steps]
        array = group.create_array(
            str(level),
            shape=low.shape,
            dtype=low.dtype,
            chunks=chunks or (1,) * (low.ndim - 2) + (32, 48),
            **options,
        )
        array[...] = low
        scale = [{"y": 0.25, "x": 0.5}.get(axis, 1.0) * (2**level if axis in "yx" else 1) for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"t": "time", "c": "channel"}
    notes: dict[str, Any] = {
        "multiscales": [
            {
                "axes": [
                    {"name": axis, "type": kinds.get(axis, "space")}
                    | ({"unit": "micrometer"} if units and axis in "zyx" else {})
                    for axis in axes
                ],
                "datasets": datasets,
            }
        ]
    }
    if names:
        notes["omero"] = {"channels": [{"label": name} for name in names]}
    if version == "0.4":
        notes["multiscales"][0]["version"] = "0.4"
        group.attrs.update(notes)
    else:
        group.attrs["ome"] = {"version": version, **notes}
    return path


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


def test_planes_that_are_not_there(tmp_path: Path) -> None:
    tiff = write_ome_tiff(tmp_path / "a.ome.tif", planes(2, 3, 40, 50), "TZYX")
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(2, 3, 40, 50), "tzyx")
    for path in (tiff, folder):
        with pytest.raises(ConfigError, match=r"has 2 time points, so time is 0 to 1, not 2"):
            xt.open_image(path, time=2)
        with pytest.raises(ConfigError, match=r"has 3 focal planes, so z is 0 to 2, not -1"):
            xt.open_image(path, z=-1)


def test_nodata_can_be_given(tmp_path: Path) -> None:
    tiff = write_ome_tiff(tmp_path / "a.ome.tif", planes(40, 50), "YX")
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(40, 50), "yx")
    for path in (tiff, folder):
        with xt.open_image(path, nodata=0) as image:
            assert image.nodata == image.fill == 0
        with pytest.raises(ConfigError, match="nodata=-1 cannot occur"):
            xt.open_image(path, nodata=-1)


def test_a_length_needs_a_unit(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", planes(40, 50), "yx", units=False)
    assert xt.open_image(path).microns_per_pixel is None
    assert in_microns((2.0, 1.0), ("nanometer", "mm")) == pytest.approx((0.002, 1000.0))
    assert in_microns((2.0, 1.0), ("pixel", "mm")) is None
    assert in_microns((0.0, 1.0), ("mm", "mm")) is None


def test_a_chunk_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", planes(3, 128, 192), "cyx")
    seen: list[tuple[int, ...]] = []
    decode = OmeZarrImage._decode

    def counted(self: OmeZarrImage, *place: int) -> np.ndarray:
        seen.append(place)
        return decode(self, *place)

    monkeypatch.setattr(OmeZarrImage, "_decode", counted)
    with xt.open_image(path) as image:
        for y in range(0, 128, 16):
            for x in range(0, 192, 16):
                image.read(y, x, 16, 16)
    assert len(seen) == len(set(seen)) == 4 * 4


def test_folders_that_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, but an image file is expected"):
        xt.open_image(tmp_path)
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(ImageError, match=r"g\.zarr is Zarr without the metadata of OME-Zarr"):
        xt.open_image(tmp_path / "g.zarr")
    group.create_array("0", shape=(4, 4), dtype="uint8")
    with pytest.raises(ImageError, match="is a single Zarr array without the metadata of OME-Zarr"):
        xt.open_image(tmp_path / "g.zarr" / "0")
    group.attrs["ome"] = {"plate": {}}
    with pytest.raises(
        ImageError, match=r"is a plate of many images: open one of its fields, such as .*/A/1/0"
    ):
        xt.open_image(tmp_path / "g.zarr")
    group.attrs["ome"] = {
        "multiscales": [{"datasets": [{"path": "7"}], "axes": [{"name": "y"}, {"name": "x"}]}]
    }
    with pytest.raises(ImageError, match=r"g\.zarr lacks a level that its metadata names, '7'"):
        xt.open_image(tmp_path / "g.zarr")
    group.attrs["ome"] = {
        "multiscales": [{"datasets": [{"path": "0"}], "axes": [{"name": "y"}, {"name": "q"}]}]
    }
    with pytest.raises(
        ImageError, match="has the axes y, q for 2 dimensions; expected y, x and any of t, c, z"
    ):
        xt.open_image(tmp_path / "g.zarr")
    (tmp_path / "g.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ImageError, match=r"g\.zarr is no Zarr folder that can be opened, or it is damaged"):
        xt.open_image(tmp_path / "g.zarr")


def test_damaged_pixels_are_an_error(tmp_path: Path) -> None:
    steps = np.arange(2 * 200 * 200).reshape(2, 200, 200).astype(np.uint16)
    tiff = write_ome_tiff(tmp_path / "a.ome.tif", steps, "CYX", photometric="minisblack")
    content = bytearray(tiff.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 3000] = bytes(3000)
    tiff.write_bytes(content)
    with xt.open_image(tiff) as image:
        with pytest.raises(ImageError, match=r"a\.ome\.tif is damaged or cut off: rows 0 to 200"):
            image.read(0, 0, 200, 200)
        np.testing.assert_array_equal(image.read(0, 0, 9, 9), steps[:, :9, :9].transpose(1, 2, 0))


def test_a_cut_off_tiff_is_an_error(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", planes(4, 200, 200), "CYX", photometric="minisblack")
    content = path.read_bytes()
    for share in (0.3, 0.9, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ImageError, match=r"a\.ome\.tif is .*(damaged|cut off)"):
            xt.open_image(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip"])
def test_a_cut_off_chunk_is_an_error(tmp_path: Path, version: str, codec: str) -> None:
    if version == "0.4":
        compressor = {"blosc": numcodecs.Blosc, "zstd": numcodecs.Zstd, "gzip": numcodecs.GZip}[codec]()
    else:
        compressor = {"blosc": codecs.BloscCodec, "zstd": codecs.ZstdCodec, "gzip": codecs.GzipCodec}[codec]()
    pixels = planes(2, 64, 96)
    folder = write_ome_zarr(tmp_path / "a.zarr", pixels, "cyx", version=version, compressors=[compressor])
    chunk = folder / "0" / ("1.0.0" if version == "0.4" else "c/1/0/0")
    for kept in (2000, 100, 3, 0):
        chunk.write_bytes(chunk.read_bytes()[:kept])
        with xt.open_image(folder) as image:
            with pytest.raises(
                ImageError,
                match=r"a\.zarr is damaged or incomplete: rows 0 to 32 and columns 0 to 48 of level 0",
            ):
                image.read(0, 0, 4, 4)
            np.testing.assert_array_equal(
                image.read(40, 50, 4, 4), pixels[:, 40:44, 50:54].transpose(1, 2, 0)
            )


def test_one_chunk_for_all_is_told_to_be_slow(tmp_path: Path) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(4, 4), "yx")
    side = 12_000
    zarr.open_group(folder).create_array(
        "0", shape=(side, side), chunks=(side, side), dtype="uint8", overwrite=True
    )
    with pytest.warns(SlowImageWarning, match=r"a\.zarr .* is not stored in tiles"):
        xt.open_image(folder)


def test_a_zarr_is_read_where_it_lies(tmp_path: Path) -> None:
    """Chunks that are not there hold zeros, and the folder's name says nothing."""
    path = write_ome_zarr(tmp_path / "scan", planes(64, 96), "yx")
    shutil.rmtree(path / "0" / "1", ignore_errors=True)
    for chunk in (path / "0").glob("1.*"):
        chunk.unlink()
    with xt.open_image(path) as image:
        assert not image.read(32, 0, 32, 96).any()
        assert image.read(0, 0, 32, 96).any()
