"""Whole-slide images through OpenSlide: SVS, NDPI, MRXS, SCN and the other scanners' formats."""

from __future__ import annotations

import functools
import os
import weakref
from typing import Any

import numpy as np

from xt.errors import ImageError, MissingPackageError
from xt.images import dicom
from xt.images.handles import HandlePool
from xt.images.image import LargeImage, check_nodata
from xt.images.storage import check_claims

GENERIC = "generic-tiff"
BLANK_GLASS = 255
# Decoded tiles that all slides of the process keep together.
_TILE_CACHE_BYTES = 64 * 2**20


class SlideImage(LargeImage):
    """A slide as RGB: what the scanner left out is white.

    Some scanners' levels do not divide evenly. Windows of such a level start at the level-0 pixel nearest to theirs,
    and OpenSlide then interpolates by that fraction of a pixel.
    """

    def __init__(self, path: str | os.PathLike[str], nodata: float | None = None) -> None:
        self.path = str(path)
        self._nodata_override = nodata
        file = dicom.file_to_open(self.path) if dicom.is_dicom_or_folder(self.path) else self.path
        self._pool: HandlePool[Any] = HandlePool(
            self.path, functools.partial(_open, file), lambda slide: slide.close()
        )
        self._release = weakref.finalize(self, self._pool.close)
        with self._pool.borrow() as slide:
            shapes = [(height, width) for width, height in slide.level_dimensions]
            levels = [1.0, *(float(factor) for factor in slide.level_downsamples[1:])]
            check_claims(self.path, 3, _tile_bytes(slide.properties))
            microns = _microns_per_pixel(slide.properties)
            self.scanner: str = slide.properties.get("openslide.vendor", "unknown")
            origin = _bounds_origin(slide.properties)
        dtype = np.dtype(np.uint8)
        super().__init__(
            self.path,
            shapes,
            3,
            dtype,
            levels=levels,
            microns_per_pixel=microns,
            nodata=check_nodata(nodata, dtype, self.path),
            fill=BLANK_GLASS,
        )
        self.qupath_origin = origin

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        import openslide

        factor = self.levels[level]
        with self._pool.borrow() as slide:
            try:
                picture = slide.read_region((round(x * factor), round(y * factor)), level, (width, height))
            except openslide.OpenSlideError as error:
                raise ImageError(
                    f"{self.path} is damaged or cut off: rows {y} to {y + height} and columns {x} to "
                    f"{x + width} of level {level} cannot be decoded ({error}); get the file again from its "
                    "source"
                ) from error
        return _colours(picture)

    def close(self) -> None:
        super().close()
        self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        # Handles do not travel to other processes: the slide is opened anew there.
        return SlideImage, (self.path, self._nodata_override)


def detect_format(path: str, required: bool = False) -> str | None:
    """OpenSlide's name of the file's format, None if it knows none.

    Raises:
        MissingPackageError: OpenSlide is not installed, though this file is `required` to be read by it.
    """
    try:
        openslide = _import_openslide()
    except MissingPackageError:
        if required:
            raise
        return None
    name: str | None = openslide.OpenSlide.detect_format(path)
    return name


def _colours(picture: Any) -> np.ndarray:
    """(h, w, 3) of a Pillow image with alpha; where that hides nothing Pillow itself leaves it out, which is faster."""
    if picture.getchannel("A").getextrema()[0] == 255:
        width, height = picture.size
        return np.frombuffer(bytearray(picture.tobytes("raw", "RGB")), np.uint8).reshape(height, width, 3)
    return on_white(np.asarray(picture))


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Pixels (h, w, 4) of 0 to 255, alpha not multiplied in, laid over white: (h, w, 3)."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    opaque = rgba[..., :3].astype(np.uint16) * alpha
    return ((opaque + BLANK_GLASS * (255 - alpha.astype(np.uint16)) + 127) // 255).astype(np.uint8)


def _import_openslide() -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise MissingPackageError(
            "whole-slide images are read through OpenSlide: pip install openslide-python openslide-bin"
        ) from error
    return openslide


@functools.cache
def _tile_cache() -> Any:
    # One for all slides and handles; each handle would otherwise have a cache of its own.
    return _import_openslide().OpenSlideCache(_TILE_CACHE_BYTES)


def _open(path: str) -> Any:
    openslide = _import_openslide()
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise ImageError(
            f"{path} is not a slide that OpenSlide can open, or it is damaged or cut off ({error})"
        ) from error
    slide.set_cache(_tile_cache())
    return slide


def _tile_bytes(properties: Any) -> int:
    """Of the largest tile of any level, as OpenSlide decodes it."""
    sizes = [
        int(properties.get(f"openslide.level[{level}].tile-height", 0))
        * int(properties.get(f"openslide.level[{level}].tile-width", 0))
        for level in range(int(properties.get("openslide.level-count", 0)))
    ]
    return 4 * max(sizes, default=0)


def _microns_per_pixel(properties: Any) -> tuple[float, float] | None:
    try:
        microns = float(properties["openslide.mpp-y"]), float(properties["openslide.mpp-x"])
    except (KeyError, ValueError):
        return None
    return microns if min(microns) > 0 else None


def _bounds_origin(properties: Any) -> tuple[int, int]:
    """Where the scanned part begins, (y, x): QuPath shows nothing else of a slide that names all four of its bounds."""
    try:
        x, y, _, _ = (int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return 0, 0
    return y, x
