"""Where pixels come from: one file for each family of containers, all behind `LargeImage`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xt.errors import ImageError
from xt.images.array import ArrayImage, is_tensor
from xt.images.image import LargeImage

Progress = Callable[[float], object]
__all__ = ["LargeImage", "open_image", "tile"]

# Files that only OpenSlide reads, by which a missing OpenSlide is noticed.
_SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi"})


def open_image(source: Any, nodata: float | None = None) -> LargeImage:
    """Open an image for reading by window; no pixels are read yet.

    Args:
        source: a path; an array or memory map (height, width) or (height, width, channels); a torch tensor
            (channels, height, width); or a LargeImage, which is returned as it is.
        nodata: the value of pixels that hold nothing, in place of the one in the file.
    Raises:
        ImageError: the file is missing, not an image, or damaged.
        PixelError: the pixels are not integers or real floats.
        MissingPackageError: the package that reads such files is not installed.
    """
    if isinstance(source, LargeImage):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_file(os.fspath(source), nodata)
    if is_tensor(source) or hasattr(source, "__array__"):
        return ArrayImage(source, nodata)
    raise TypeError(
        f"an image is opened from a path, an array or a torch tensor, not from {type(source).__name__}"
    )


def _open_file(path: str, nodata: float | None) -> LargeImage:
    """Choose between OpenSlide and GDAL.

    A scanner's own format goes to OpenSlide. A tiled TIFF that both can read is a slide if it says so: 8-bit RGB,
    a microscope's resolution in its tags, and neither coordinates nor a nodata value. All else goes to GDAL.
    """
    from xt.images import slide
    from xt.images.raster import RasterImage

    # What GDAL finds elsewhere ("https://...", "/vsizip/...", "NETCDF:file:variable") is left to GDAL.
    elsewhere = "://" in path or path.startswith("/vsi") or (":" in path and not Path(path).exists())
    if elsewhere:
        return RasterImage(path, nodata)
    _check_file(path)
    kind = slide.detect_format(path, required=Path(path).suffix.lower() in _SLIDE_SUFFIXES)
    if kind is not None and kind != slide.GENERIC:
        return slide.SlideImage(path, nodata)
    image = RasterImage(path, nodata)
    looks_like_slide = (
        kind == slide.GENERIC
        and image.microns_per_pixel is not None
        and (image.channels, image.dtype) == (3, "uint8")
        and image.crs is None
        and image.transform is None
        and image.nodata is None
    )
    if looks_like_slide:
        image.close()
        return slide.SlideImage(path, nodata)
    return image


def tile(source: Any, destination: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """Write an image as a tiled, compressed pyramid; see `xt.images.conversion.tile`."""
    from xt.images.conversion import tile

    return tile(source, destination, progress)


def _check_file(path: str) -> None:
    file = Path(path)
    if not file.exists():
        raise ImageError(f"there is no file {path}")
    if file.is_dir():
        raise ImageError(f"{path} is a folder, but an image file is expected")
    if file.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes): it was probably cut off while being copied")
