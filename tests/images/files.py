"""Image files for the tests, written by the containers' own libraries."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

# Turned and with pixels that are not square, so that no two of its numbers can be mixed up unseen.
_ORIENTATION = 0x0112
TRANSFORM = Affine(2.0, 0.5, 500_000.0, 0.25, -3.0, 4_100_000.0)


def smooth(height: int, width: int, channels: int = 3, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Pixels (h, w, c) over the type's whole range, without repetition."""
    random = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return random.normal(0, 100, (height, width, channels)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (height, width, channels), dtype=dtype, endpoint=True)


def write_raster(
    path: Path,
    pixels: np.ndarray,
    colors: dict[int, tuple[int, ...]] | None = None,
    overviews: tuple[int, ...] = (),
    tags: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """Any file GDAL writes, from (h, w, c)."""
    height, width, channels = pixels.shape
    shape = {"height": height, "width": width, "count": channels, "dtype": pixels.dtype}
    options = {"driver": "GTiff", **shape, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as dataset:
            dataset.update_tags(**(tags or {}))
            if colors:
                dataset.write_colormap(1, colors)
            dataset.write(pixels.transpose(2, 0, 1))
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(overviews)
    return path


def raster_pixels(path: Path, level: int = 0) -> np.ndarray:
    """A level as rasterio reads it: (h, w, c), without alpha."""
    with _opened(path, level) as dataset:
        return np.stack([dataset.read(band) for band in colours(dataset)], axis=-1)


def raster_validity(path: Path, level: int = 0) -> np.ndarray:
    """Where each channel of a level holds something, as GDAL's masks say: (h, w, c)."""
    with _opened(path, level) as dataset:
        return np.ascontiguousarray(dataset.read_masks(colours(dataset)).transpose(1, 2, 0) > 0)


def colours(dataset: Any) -> list[int]:
    """The numbers of the bands that are not alpha."""
    return [
        band
        for band, colour in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if colour.name != "alpha"
    ]


def _opened(path: Path, level: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **({"overview_level": level - 1} if level else {}))


def write_slide(
    path: Path, pixels: np.ndarray, levels: int = 3, microns: float = 0.5, square: bool = False
) -> Path:
    """A tiled pyramid without a scanner's marks, which OpenSlide reads as a generic slide; pixels twice as high as
    wide unless `square`."""
    high = microns if square else 2 * microns
    resolution = {"resolution": (1e4 / microns, 1e4 / high), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            step = 2**level
            extra = resolution if level == 0 else {}
            file.write(
                np.ascontiguousarray(pixels[::step, ::step]),
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                subfiletype=int(level > 0),
                **extra,
            )
    return path


def set_orientation(path: Path, orientation: int) -> None:
    """Add the tag to the first directory: that is written anew at the end of the file."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = [bytes(content[start + 2 + 12 * n : start + 14 + 12 * n]) for n in range(count)]
    entries.append(struct.pack("<HHIHH", _ORIENTATION, 3, 1, orientation, 0))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    content += b"\0" * (len(content) % 2)
    struct.pack_into("<I", content, 4, len(content))
    after = bytes(content[start + 2 + 12 * count : start + 6 + 12 * count])
    path.write_bytes(bytes(content) + struct.pack("<H", count + 1) + b"".join(entries) + after)
