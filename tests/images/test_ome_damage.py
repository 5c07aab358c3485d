"""OME-TIFF and OME-Zarr that lack something: units, planes, pixels; and how they are read."""

import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from zarr import codecs

import xt
from tests.images.ome_files import planes, write_ome_tiff, write_ome_zarr
from xt.errors import ConfigError, ImageError, SlowImageWarning
from xt.images.ome import in_microns
from xt.images.ome_zarr import OmeZarrImage


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


def test_a_level_that_is_another_image_is_refused(tmp_path: Path) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(2, 40, 50), "cyx", levels=2)
    other = zarr.open_group(folder, mode="r+")
    del other["1"]
    other.create_array("1", shape=(3, 20, 25), dtype="uint16", chunks=(1, 20, 25))
    with pytest.raises(
        ImageError, match=r"a\.zarr: level 1 is of shape \(3, 20, 25\) .* differ in height and width"
    ):
        xt.open_image(folder)


@pytest.mark.parametrize(
    "notes", [[], [3], [{"datasets": [1], "axes": [{}]}], [{"datasets": {"path": 0}}], "a", 7]
)
def test_metadata_of_another_form_are_one_sentence(tmp_path: Path, notes: object) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(2, 40, 50), "cyx")
    zarr.open_group(folder, mode="r+").attrs["multiscales"] = notes
    with pytest.raises(ImageError, match=r"a\.zarr"):
        xt.open_image(folder)


def test_an_image_without_pixels_is_refused(tmp_path: Path) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", planes(2, 40, 50), "cyx")
    other = zarr.open_group(folder, mode="r+")
    del other["0"]
    other.create_array("0", shape=(2, 0, 50), dtype="uint16", chunks=(1, 20, 25))
    with pytest.raises(ImageError, match=r"a\.zarr: level 0 has the shape \(2, 0, 50\) .* no pixels"):
        xt.open_image(folder)
