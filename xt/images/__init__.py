"""Where pixels come from: one file for each family of containers, all behind `LargeImage`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xt.errors import ImageError
from xt.images.array import ArrayImage, is_tensor
from xt.images.image import LargeImage

__all__ = ["LargeImage", "open_image"]


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
    from xt.images.raster import RasterImage

    _check_file(path)
    return RasterImage(path, nodata)


def _check_file(path: str) -> None:
    # What GDAL finds elsewhere ("https://...", "/vsizip/...", "NETCDF:file:variable") is left to GDAL.
    if "://" in path or path.startswith("/vsi") or (":" in path and not Path(path).exists()):
        return
    file = Path(path)
    if not file.exists():
        raise ImageError(f"there is no file {path}")
    if file.is_dir():
        raise ImageError(f"{path} is a folder, but an image file is expected")
    if file.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes): it was probably cut off while being copied")
