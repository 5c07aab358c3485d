"""Small images of every container, and how each is changed: bytes, entries of a TIFF's directories, JSON of a Zarr."""

import json
import shutil
import struct
from pathlib import Path

import PIL.Image
import rasterio
import tifffile
from numpy.random import Generator

from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import planes, write_ome_tiff, write_ome_zarr
from tests.mutation import changed, changed_bytes

_APERIO = "Aperio Image Library v12.0.15\r\n96x80 [0,0 96x80] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990|Left = 1"
# Of a TIFF's numbers: sizes, types, counts and places beyond all meaning.
_ODD = (0, 1, 2, 3, 7, 8, 15, 16, 255, 256, 4096, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def write_good(folder: Path) -> dict[str, Path]:
    """An image of each kind, by kind."""
    pixels = smooth(96, 80)
    paths = {
        "tiled GeoTIFF": write_raster(
            folder / "tiled.tif", pixels, overviews=(2,), tiled=True, blockxsize=32, blockysize=32,
            compress="deflate", crs="EPSG:32632", transform=rasterio.Affine(1, 0, 500000, 0, -1, 5300000), nodata=0,
        ),
        "striped TIFF": write_raster(folder / "striped.tif", smooth(96, 80, 4, "uint16"), compress="lzw", predictor=2),
        "big TIFF": write_raster(folder / "big.tif", smooth(96, 80, 1, "float32"), bigtiff="YES", tiled=True),
        "JPEG in TIFF": write_raster(folder / "jpeg.tif", pixels, tiled=True, compress="jpeg", photometric="ycbcr"),
        "slide": write_slide(folder / "slide.tif", smooth(192, 160)),
        "SVS": write_raster(
            folder / "a.svs", smooth(192, 160), overviews=(2,), tags={"TIFFTAG_IMAGEDESCRIPTION": _APERIO}, tiled=True,
            blockxsize=64, blockysize=64, compress="jpeg", photometric="ycbcr",
        ),
        "OME-TIFF": write_ome_tiff(folder / "a.ome.tif", planes(3, 96, 80), "CYX", levels=2),
        "ImageJ": folder / "ij.tif",
        "PNG": write_raster(folder / "a.png", pixels, driver="PNG"),
        "JPEG": write_raster(folder / "a.jpg", pixels, driver="JPEG"),
        "WebP": write_raster(folder / "a.webp", pixels, driver="WEBP"),
        "JPEG 2000": write_raster(folder / "a.jp2", pixels, driver="JP2OpenJPEG"),
        "GIF": folder / "a.gif",
        "OME-Zarr 0.4": write_ome_zarr(folder / "a.zarr", planes(2, 96, 80), "cyx", levels=2, names=["a", "b"]),
        "OME-Zarr 0.5": write_ome_zarr(folder / "b.zarr", planes(2, 96, 80), "cyx", "0.5", levels=2),
    }  # fmt: skip
    tifffile.imwrite(paths["ImageJ"], planes(3, 96, 80), imagej=True, metadata={"axes": "CYX"})
    PIL.Image.fromarray(pixels).quantize(16).save(paths["GIF"])
    return paths


def write_changed(good: Path, folder: Path, draw: Generator) -> Path:
    """A changed copy."""
    path = folder / good.name
    if good.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(good, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        notes = [file for file in files if file.name in _NOTES]
        some = notes if draw.random() < 0.8 else files
        file = some[int(draw.integers(len(some)))]
        file.write_bytes(
            _changed_note(file.read_bytes(), draw)
            if file in notes
            else changed_bytes(file.read_bytes(), draw)
        )
        return path
    content = good.read_bytes()
    is_classic_tiff = content[:4] == b"II*\0"
    change = _changed_tiff if is_classic_tiff and draw.random() < 0.6 else changed_bytes
    path.write_bytes(change(content, draw))
    return path


_NOTES = (".zattrs", ".zgroup", ".zarray", "zarr.json")


def _changed_note(content: bytes, draw: Generator) -> bytes:
    if draw.random() < 0.1:
        return changed_bytes(content, draw)
    return json.dumps(changed(json.loads(content), draw)).encode()


def _changed_tiff(content: bytes, draw: Generator) -> bytes:
    """With one to three entries of its directories changed: tag, type, count or value; or where a directory lies."""
    result = bytearray(content)
    directories = list(_directories(content))
    for _ in range(int(draw.integers(1, 4))):
        start, count = directories[int(draw.integers(len(directories)))]
        entry = start + 2 + 12 * int(draw.integers(count))
        if draw.random() < 0.05:
            struct.pack_into(
                "<I",
                result,
                start + 2 + 12 * count,
                int(draw.choice([start, 0, 1, 8, len(result), 2**32 - 1])),
            )
            continue
        place, form = ((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I"), (8, "<I"))[
            int(draw.integers(6))
        ]
        value = int(draw.choice(_ODD)) & (0xFFFF if form == "<H" else 0xFFFFFFFF)
        struct.pack_into(form, result, entry + place, value)
    return bytes(result)


def _directories(content: bytes) -> list[tuple[int, int]]:
    """Where each directory of a little-endian classic TIFF starts, and how many entries it has."""
    found: list[tuple[int, int]] = []
    (start,) = struct.unpack_from("<I", content, 4)
    while start:
        (count,) = struct.unpack_from("<H", content, start)
        found.append((start, count))
        (start,) = struct.unpack_from("<I", content, start + 2 + 12 * count)
    return found
