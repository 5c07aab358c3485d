"""`tile`: write any image as a tiled, compressed pyramid that is read by window at speed, here and elsewhere."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal

import numpy as np

from xt.errors import ConfigError, OutputError, SlowImageWarning, XTError
from xt.images import open_image, stack_parts
from xt.images.image import LargeImage
from xt.images.raster import RasterImage, import_rasterio, rasterio_dataset
from xt.output import atomic_path

Compression = Literal["deflate", "jpeg"]

_TILE = 512
# Rows that are held in memory at a time.
_ROWS_BYTES = 64 * 2**20
# How the work is divided, for the progress; measured on an RGB image of 16,384 x 16,384 pixels.
_COPIED, _REDUCED = 0.2, 0.45
_LOOK_EVERY_S = 0.2
_MICRONS_PER_CENTIMETRE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a file is to say about its pixels besides what a `LargeImage` tells.

    Attributes:
        palette: red, green, blue and opacity (0 to 255) of each pixel value, for one band of class numbers.
        bands: a name for each.
        scale: what a pixel's value is multiplied by to get what it means; GDAL and QGIS do so.
        tags: whatever else.
    """

    palette: Mapping[int, tuple[int, int, int, int]] | None = None
    bands: tuple[str, ...] = ()
    scale: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def tile(
    source: LargeImage | str | os.PathLike[str],
    destination: str | os.PathLike[str],
    progress: Callable[[float], object] | None = None,
    *,
    compression: Compression = "deflate",
    quality: int = 90,
    notes: Notes = Notes(),
) -> Path:
    """Write an image as a cloud-optimised GeoTIFF: tiles of 512 pixels, each level half the one before.

    Coordinates, nodata, palette and a slide's resolution are kept. Memory is bounded; twice the image's uncompressed
    size is needed on disk for a moment, beside the destination, which appears only when it is whole.

    Args:
        source: anything `open_image` opens. Row after row is read, so that files without tiles are read well.
        destination: ends in .tif or .tiff; an existing file is replaced.
        progress: called with the fraction done, 0 to 1, as it grows.
        compression: "deflate" loses nothing; "jpeg" is smaller, for photographs and slides of 8-bit RGB or grey.
        quality: of JPEG, 1 to 100.
        notes: more for the file to say.
    Returns:
        The destination.
    Raises:
        ConfigError: the destination's name or the compression does not fit.
        ImageError: the source is missing or damaged.
        OutputError: the destination cannot be written.
    """
    final = Path(destination)
    if final.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"the tiled image must be named .tif or .tiff, not {final.name}")
    if final.exists() and any(final.samefile(file) for file in _files(source)):
        raise ConfigError(f"{final} cannot be both read and written; choose another name for the tiled image")
    report = progress if progress is not None else lambda fraction: None
    with warnings.catch_warnings():
        # To be slow to read by window is why it is converted.
        warnings.simplefilter("ignore", SlowImageWarning)
        image = open_image(source)
    try:
        is_classes = notes.palette is not None or _is_classes(image)
        options = _options(image, compression, quality, is_classes)
        # Of classes a mean would be another class.
        resampling = "mode" if is_classes else "average"
        with atomic_path(final) as temporary:
            _write(image, final, temporary, options, resampling, notes, report)
    finally:
        if image is not source:
            image.close()
    report(1.0)
    return final


def _files(source: LargeImage | str | os.PathLike[str]) -> list[str]:
    """The files on disk that a path names."""
    if not isinstance(source, (str, os.PathLike)):
        return []
    return [part for part in stack_parts(os.fspath(source)) if os.path.exists(part)]


def _write(
    image: LargeImage,
    final: Path,
    temporary: Path,
    options: dict[str, Any],
    resampling: str,
    notes: Notes,
    report: Callable[[float], object],
) -> None:
    """Copy the pixels to a plain tiled file, add the levels there, and let GDAL arrange both as a COG."""
    rasterio = import_rasterio()
    from rasterio import shutil
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning

    # Named so that it goes where the temporary file goes when something fails.
    plain = temporary.with_name(temporary.name + ".plain.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            rows = _rows_at_once(image)
            with rasterio.open(plain, "w", **_profile(image, rows)) as dataset:
                _copy_notes(image, dataset)
                _add_notes(notes, dataset)
                for y in range(0, image.shape[0], rows):
                    _copy_rows(image, dataset, y, min(rows, image.shape[0] - y))
                    report(_COPIED * min(y + rows, image.shape[0]) / image.shape[0])
            size = plain.stat().st_size
            reduced = partial(_add_levels, plain, _factors(image.shape), Resampling[resampling])
            _watch(reduced, plain, (size, size * 4 / 3), (_COPIED, _REDUCED), report)
            arranged = partial(shutil.copy, plain, temporary, driver="COG", **options)
            _watch(arranged, temporary, (0, plain.stat().st_size), (_REDUCED, 1.0), report)
            _check_written(temporary)
            plain.unlink()
            plain.with_name(plain.name + ".aux.xml").unlink(missing_ok=True)
        except XTError:
            raise
        except Exception as error:
            # Reading reports its errors itself, so this was writing: rasterio's errors have no common base, and
            # a full disk often shows only when what was written is read again.
            free = disk_usage(temporary.parent).free
            raise OutputError(
                f"Could not write {final}: {error.__cause__ or error}. Is the disk full ({free / 2**20:.0f} MB "
                "free), or is there a limit to the size of files? Nothing half-written was left."
            ) from error


def _add_levels(path: Path, factors: list[int], resampling: Any) -> None:
    if factors:
        with import_rasterio().open(path, "r+") as dataset:
            dataset.build_overviews(factors, resampling)


def _watch(
    work: Callable[[], object],
    path: Path,
    sizes: tuple[float, float],
    fractions: tuple[float, float],
    report: Callable[[float], object],
) -> None:
    """Do what GDAL does in one piece in another thread, and tell how far it is from how its file grows.

    Args:
        sizes: of the file before and, roughly, after.
        fractions: of all the work, before and after.
    """
    before, after = sizes
    start, stop = fractions
    best = start
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work)
        while not wait([future], timeout=_LOOK_EVERY_S).done:
            grown = (path.stat().st_size - before) / (after - before) if path.exists() else 0.0
            best = max(best, start + (stop - start) * min(grown, 0.98))
            report(best)
        future.result()
    report(stop)


def _check_written(path: Path) -> None:
    """Read the last pixel of each level, which lie at the file's end: closing a file reports no errors."""
    rasterio = import_rasterio()
    with rasterio.open(path) as dataset:
        count = len(dataset.overviews(1))
    for options in ({}, *({"overview_level": level} for level in range(count))):
        with rasterio.open(path, **options) as dataset:
            dataset.read(window=((dataset.height - 1, dataset.height), (dataset.width - 1, dataset.width)))


def _rows_at_once(image: LargeImage) -> int:
    # The height of a TIFF's tiles must be a multiple of 16.
    row_bytes = image.shape[1] * image.channels * image.dtype.itemsize
    return max(16, min(_TILE, _ROWS_BYTES // row_bytes // 16 * 16))


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # TIFF as GDAL 3.10 writes it has neither booleans nor 16-bit floats.
    return np.dtype({"bool": "uint8", "float16": "float32"}.get(dtype.name, dtype.name))


def _profile(image: LargeImage, rows: int) -> dict[str, Any]:
    from rasterio.transform import Affine

    return {
        "driver": "GTiff",
        "height": image.shape[0],
        "width": image.shape[1],
        "count": image.channels,
        "dtype": _stored_dtype(image.dtype).name,
        # Of control points it belongs to them.
        "crs": None if image.control is not None else image.crs,
        "transform": None if image.transform is None else Affine(*image.transform),
        "nodata": image.nodata,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": rows,
        "interleave": "pixel",
        "photometric": "RGB" if image.channels == 3 and image.dtype == np.uint8 else "MINISBLACK",
        "compress": "deflate",
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
    }


def _copy_notes(image: LargeImage, dataset: Any) -> None:
    """What a file says about its pixels besides their values."""
    if isinstance(image, RasterImage):
        with rasterio_dataset(image) as original:
            dataset.update_tags(**_sensible(original.tags()))
            dataset.descriptions = original.descriptions
            dataset.colorinterp = original.colorinterp
            if original.colorinterp[0].name == "palette":
                dataset.write_colormap(1, original.colormap(1))
    elif image.channel_names is not None:
        dataset.descriptions = image.channel_names
    if image.transform is None and image.control is not None:
        image.control.write_to(dataset)
    if image.microns_per_pixel is not None:
        y, x = (_MICRONS_PER_CENTIMETRE / microns for microns in image.microns_per_pixel)
        dataset.update_tags(
            TIFFTAG_YRESOLUTION=f"{y:.10g}", TIFFTAG_XRESOLUTION=f"{x:.10g}", TIFFTAG_RESOLUTIONUNIT="3"
        )


def _sensible(tags: Mapping[str, str]) -> dict[str, str]:
    """Without a resolution that is none, such as 1 / 0 pixels a centimetre."""
    names = ("TIFFTAG_XRESOLUTION", "TIFFTAG_YRESOLUTION")
    try:
        if all(0 < float(tags[name]) < math.inf for name in names if name in tags):
            return dict(tags)
    except ValueError:
        pass
    return {name: value for name, value in tags.items() if name not in names}


def _add_notes(notes: Notes, dataset: Any) -> None:
    dataset.update_tags(**notes.tags)
    if notes.bands:
        dataset.descriptions = notes.bands
    if notes.palette is not None:
        dataset.write_colormap(1, dict(notes.palette))
    if notes.scale is not None:
        dataset.scales = [notes.scale] * dataset.count


def _is_classes(image: LargeImage) -> bool:
    if not isinstance(image, RasterImage):
        return image.dtype.kind == "b"
    with rasterio_dataset(image) as original:
        return bool(original.colorinterp[0].name == "palette")


def _copy_rows(image: LargeImage, dataset: Any, y: int, rows: int) -> None:
    from rasterio.windows import Window

    pixels = image.read(y, 0, rows, image.shape[1]).transpose(2, 0, 1)
    stored = np.ascontiguousarray(pixels, dtype=_stored_dtype(image.dtype))
    dataset.write(stored, window=Window(0, y, image.shape[1], rows))


def _factors(shape: tuple[int, int]) -> list[int]:
    """Downsample factors until a level fits into one tile."""
    factors: list[int] = []
    while max(shape) > _TILE * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    return factors


def _options(image: LargeImage, compression: str, quality: int, is_classes: bool) -> dict[str, Any]:
    common = {"BLOCKSIZE": _TILE, "BIGTIFF": "IF_SAFER", "OVERVIEWS": "AUTO", "NUM_THREADS": "2"}
    if compression == "deflate":
        predictor = "NO" if is_classes else "YES"
        return {**common, "COMPRESS": "DEFLATE", "PREDICTOR": predictor, "OVERVIEW_PREDICTOR": predictor}
    if compression != "jpeg":
        raise ConfigError(f'compression is "deflate" or "jpeg", not {compression!r}')
    if image.dtype != np.uint8 or image.channels not in (1, 3) or is_classes:
        raise ConfigError(
            f"JPEG holds 8-bit grey or RGB, but {image.name} has {image.channels} channels of {image.dtype}; "
            'use compression="deflate"'
        )
    if not 1 <= quality <= 100:
        raise ConfigError(f"JPEG's quality is 1 to 100, not {quality}")
    return {**common, "COMPRESS": "JPEG", "QUALITY": quality}
