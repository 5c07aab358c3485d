"""`tile`: write any image as a tiled, compressed pyramid that is read by window at speed, here and elsewhere."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal

import numpy as np

from xt.errors import ConfigError, DataWarning, OutputError, SlowImageWarning, XTError
from xt.images.bands import ALPHA
from xt.images.gdal import import_rasterio
from xt.images.image import LargeImage
from xt.images.missing import Missing, Window, missing_of
from xt.images.names import files_of
from xt.images.notes import BandNotes, FileNotes, lost_notes, write_notes
from xt.images.opening import open_image, stack_parts
from xt.images.orientation import TURNS
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

    Coordinates (a transform, control points, rational polynomials), a slide's resolution and what the file says of its
    pixels are kept: names, scales, offsets and units of bands, colours, tags; and what is missing, by a mask within the
    file where no value says it. A `DataWarning` names what a tiled TIFF has no place for. Memory is bounded; twice the
    image's uncompressed size is needed on disk for a moment, beside the destination, which appears only when whole.

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
        # Alpha is copied as the band that it is, shades and all; JPEG has no fourth band, but a mask beside it.
        is_file = isinstance(source, (str, os.PathLike)) and len(stack_parts(os.fspath(source))) == 1
        image = open_image(source, alpha="channel" if is_file and compression != "jpeg" else ALPHA)
    try:
        is_classes = notes.palette is not None or _is_classes(image)
        options = _options(image, compression, quality, is_classes)
        # Of classes a mean would be another class.
        resampling = "mode" if is_classes else "average"
        with atomic_path(final) as temporary:
            lost = _write(image, final, temporary, options, resampling, notes, report)
    finally:
        if image is not source:
            image.close()
    if lost:
        warnings.warn(
            f"{final} has all pixels of {image.name}, but a tiled TIFF has no place for: {'; '.join(lost)}",
            DataWarning,
            stacklevel=2,
        )
    report(1.0)
    return final


def _files(source: LargeImage | str | os.PathLike[str]) -> list[str]:
    """The files on disk that a path names."""
    if not isinstance(source, (str, os.PathLike)):
        return []
    return [
        file for part in stack_parts(os.fspath(source)) for file in files_of(part) if os.path.exists(file)
    ]


def _write(
    image: LargeImage,
    final: Path,
    temporary: Path,
    options: dict[str, Any],
    resampling: str,
    notes: Notes,
    report: Callable[[float], object],
) -> list[str]:
    """Copy the pixels to a plain tiled file, add the levels there, and let GDAL arrange both as a COG.

    Returns:
        What the image says and the file does not, in words.
    """
    rasterio = import_rasterio()
    from rasterio import shutil
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning

    # Named so that it goes where the temporary file goes when something fails.
    plain = temporary.with_name(temporary.name + ".plain.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            strips = _strips(image)
            said = _notes_of(image, notes)
            missing = missing_of(image, strips)
            profile = _profile(image, max(strips, key=_area), missing)
            with rasterio.open(plain, "w", **profile) as dataset:
                write_notes(dataset, *said)
                if image.transform is None and image.control is not None:
                    image.control.write_to(dataset)
                for number, strip in enumerate(strips, start=1):
                    _copy(image, dataset, strip, missing)
                    report(_COPIED * number / len(strips))
            size = plain.stat().st_size
            reduced = partial(_add_levels, plain, _factors(image.shape), Resampling[resampling])
            _watch(reduced, plain, (size, size * 4 / 3), (_COPIED, _REDUCED), report)
            arranged = partial(shutil.copy, plain, temporary, driver="COG", **options)
            _watch(arranged, temporary, (0, plain.stat().st_size), (_REDUCED, 1.0), report)
            _check_written(temporary)
            with rasterio.open(temporary) as dataset:
                lost = lost_notes(dataset, *said)
            if missing.lost:
                lost.append(f"what is missing in some channels only ({missing.lost} pixels)")
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
    return lost


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


def _strips(image: LargeImage) -> list[Window]:
    """The image in pieces, in the order in which its file stores them: turned to be upright, rows may lie from bottom
    to top, or be columns. Of many files a piece cannot be decoded without all before it."""
    height, width = image.shape
    turn = TURNS[image.orientation]
    across, along = (height, width) if turn.swap else (width, height)
    # The sides of a TIFF's tiles must be multiples of 16.
    rows = max(16, min(_TILE, _ROWS_BYTES // (across * image.channels * image.dtype.itemsize) // 16 * 16))
    pieces = [(start, min(rows, along - start)) for start in range(0, along, rows)]
    if turn.mirror_x if turn.swap else turn.mirror_y:
        pieces.reverse()
    return [(0, start, height, size) if turn.swap else (start, 0, size, width) for start, size in pieces]


def _area(window: Window) -> int:
    return window[2] * window[3]


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # TIFF as GDAL 3.10 writes it has neither booleans nor 16-bit floats.
    return np.dtype({"bool": "uint8", "float16": "float32"}.get(dtype.name, dtype.name))


def _profile(image: LargeImage, strip: Window, missing: Missing) -> dict[str, Any]:
    from rasterio.transform import Affine

    # Tiles that no strip cuts through, so that each is written once.
    block = [
        _TILE if size == side else -(-size // 16) * 16
        for size, side in zip(strip[2:], image.shape, strict=True)
    ]
    return {
        "driver": "GTiff",
        "height": image.shape[0],
        "width": image.shape[1],
        "count": image.channels,
        "dtype": _stored_dtype(image.dtype).name,
        # Of control points it belongs to them.
        "crs": None if image.control is not None else image.crs,
        "transform": None if image.transform is None else Affine(*image.transform),
        "nodata": missing.nodata,
        "tiled": True,
        "blockxsize": block[1],
        "blockysize": block[0],
        "interleave": "pixel",
        "photometric": "RGB" if image.channels == 3 and image.dtype == np.uint8 else "MINISBLACK",
        "compress": "deflate",
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
    }


def _notes_of(image: LargeImage, notes: Notes) -> tuple[FileNotes, list[BandNotes]]:
    """What the written file is to say: what the image's says, and what else there is to be said."""
    of_file, bands = image.file_notes(), list(image.band_notes())
    if notes.bands:
        bands = [replace(band, name=name) for band, name in zip(bands, notes.bands, strict=True)]
    if notes.palette is not None:
        bands[0] = replace(bands[0], palette=notes.palette, color="palette")
    if notes.scale is not None:
        bands = [replace(band, scale=notes.scale) for band in bands]
    default = {**_sensible(of_file.tags.get("", {})), **notes.tags}
    if image.microns_per_pixel is not None:
        y, x = (_MICRONS_PER_CENTIMETRE / microns for microns in image.microns_per_pixel)
        default |= {
            "TIFFTAG_YRESOLUTION": f"{y:.10g}",
            "TIFFTAG_XRESOLUTION": f"{x:.10g}",
            "TIFFTAG_RESOLUTIONUNIT": "3",
        }
    return replace(of_file, tags={**of_file.tags, "": default}), bands


def _sensible(tags: Mapping[str, str]) -> dict[str, str]:
    """Without a resolution that is none, such as 1 / 0 pixels a centimetre."""
    names = ("TIFFTAG_XRESOLUTION", "TIFFTAG_YRESOLUTION")
    try:
        if all(0 < float(tags[name]) < math.inf for name in names if name in tags):
            return dict(tags)
    except ValueError:
        pass
    return {name: value for name, value in tags.items() if name not in names}


def _is_classes(image: LargeImage) -> bool:
    return image.dtype.kind == "b" or any(band.palette is not None for band in image.band_notes())


def _copy(image: LargeImage, dataset: Any, strip: Window, missing: Missing) -> None:
    from rasterio import windows

    y, x, height, width = strip
    window = windows.Window(x, y, width, height)
    if image.has_nodata and image.nodata is None:
        pixels, valid = image.read_valid(*strip)
        missing.write(pixels, valid, dataset, window)
    else:
        pixels = image.read(*strip)
    stored = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=_stored_dtype(image.dtype))
    dataset.write(stored, window=window)


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
