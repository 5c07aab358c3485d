"""Files that claim what cannot be are refused by their headers."""

import re
import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr

import xt
from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import planes, write_ome_tiff, write_ome_zarr
from xt.errors import ImageError
from xt.images.storage import check_claims


def test_the_limits() -> None:
    check_claims("a.tif", 4096, 2**30)
    with pytest.raises(
        ImageError, match=r"a\.tif says that it has 4,097 channels; more than 4,096 are not read"
    ):
        check_claims("a.tif", 4097, 1)
    with pytest.raises(ImageError, match=r"a\.tif says that its pixels are stored in pieces of 1\.5 GB"):
        check_claims("a.tif", 1, 3 * 2**29)


def set_tag(path: Path, tag: int, value: int) -> None:
    """In the first directory of a TIFF of little endian."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, place)[0] == tag:
            struct.pack_into("<HII", content, place + 2, 4, 1, value)
            path.write_bytes(content)
            return
    raise AssertionError(tag)


def test_channels_of_a_raster(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(4, 5, 5000), interleave="band")
    with pytest.raises(ImageError, match="5,000 channels"):
        xt.open_image(path)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4200, 2, 2), np.uint8), metadata=None)
    with pytest.raises(ImageError, match="4,200 channels"):
        xt.open_image(tmp_path / "a.tif")


def test_a_tile_of_a_raster(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", smooth(64, 64, 3), tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    for tag in (322, 323):
        set_tag(path, tag, 32_768)
    with pytest.raises(ImageError, match=r"a\.tif says that its pixels are stored in pieces of 3\.0 GB"):
        xt.open_image(path)


@pytest.mark.parametrize(
    ("claim", "said"),
    [('SizeC="9999"', "9,999 channels"), ('SizeC="2" SizeT="99999999"', "99,999,999 time points")],
)
def test_an_ome_tiff(claim: str, said: str, tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", planes(2, 64, 80), "CYX")
    with tifffile.TiffFile(path) as file:
        text = (
            re.sub(r' SizeT="\d+"', "", str(file.ome_metadata))
            if "SizeT" in claim
            else str(file.ome_metadata)
        )
    changed = text.replace('SizeC="2"', claim)
    assert changed != text
    tifffile.imwrite(tmp_path / "b.tif", planes(64, 80), description=changed.encode(), metadata=None)
    with pytest.raises(ImageError, match=said):
        xt.open_image(tmp_path / "b.tif")


def test_chunks_of_a_zarr(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", planes(1, 64, 80), "cyx")
    group = zarr.open_group(path)
    del group["0"]
    group.create_array("0", shape=(1, 40_000, 40_000), chunks=(1, 40_000, 40_000), dtype="uint8")
    with pytest.raises(ImageError, match=r"a\.zarr says that its pixels are stored in pieces of 1\.5 GB"):
        xt.open_image(path)
    del group["0"]
    group.create_array("0", shape=(5000, 64, 80), chunks=(1, 64, 80), dtype="uint8")
    with pytest.raises(ImageError, match="5,000 channels"):
        xt.open_image(path)


def test_a_tile_of_a_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "a.tif", smooth(128, 128))
    with openslide.OpenSlide(path) as slide:
        properties = dict(slide.properties)
    properties["openslide.level[1].tile-height"] = properties["openslide.level[1].tile-width"] = "20000"
    monkeypatch.setattr(openslide.OpenSlide, "properties", properties)
    with pytest.raises(ImageError, match=r"a\.tif says that its pixels are stored in pieces of 1\.5 GB"):
        xt.open_image(path)
