"""GDAL through rasterio: set up once for the process, opened with or without coordinates, its errors in a line."""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xt.errors import ImageError, MissingPackageError
from xt.images.remote import gdal_path, is_over_network, opened_remotely, why_not
from xt.images.storage import LEAST_CACHE_BYTES, Storage

# A JPEG or PNG that ends too early would otherwise be read as grey or black pixels without an error.
_OPTIONS = {"GDAL_ERROR_ON_LIBJPEG_WARNING": "YES", "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
_MARK = "XT_GDAL_IS_SET_UP"
# Which files a virtual dataset may take bytes from; since GDAL 3.12 only those beside it.
_RAW = "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE"

_one_at_a_time = threading.Lock()
_raw_at_a_time = threading.Lock()


def import_rasterio() -> Any:
    """The package, with its block cache bounded.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import rasterio
        from rasterio.env import get_gdal_config, set_gdal_config
    except ImportError as error:
        raise MissingPackageError("image files are read through rasterio: pip install rasterio") from error
    if get_gdal_config(_MARK) is None:
        # For the process, not by an Env around each read: that takes longer than many a read (0.2 ms), and would put
        # the cache's default back when it ends, while others read.
        for name, value in {"GDAL_CACHEMAX": LEAST_CACHE_BYTES, **_OPTIONS, _MARK: "YES"}.items():
            if name not in os.environ:
                set_gdal_config(name, value)
    return rasterio


def widen_cache(storage: Storage) -> None:
    from rasterio.env import get_gdal_config, set_gdal_config

    with _one_at_a_time:
        if "GDAL_CACHEMAX" not in os.environ and get_gdal_config("GDAL_CACHEMAX") < storage.cache_bytes:
            set_gdal_config("GDAL_CACHEMAX", storage.cache_bytes)


def open_for_pixels(path: str, level: int = 0, name: str | None = None) -> Any:
    """A dataset for pixels only, opened by any thread: it does not look for coordinates.

    Errors speak of `name`, where the path is none to show.

    rasterio warns about each file that has none, and to ignore warnings for a moment (`catch_warnings`) is not safe
    where other threads do the same.
    """
    import_rasterio()
    options = {"overview_level": level - 1} if level else {}
    with _opening(name or path):
        return _opened(_pixel_reader(), path, **options)


def open_for_facts(path: str, **options: Any) -> Any:
    """A dataset with its coordinates.

    Raises:
        ImageError: GDAL cannot open it.
    """
    rasterio = import_rasterio()
    from rasterio.errors import NotGeoreferencedWarning

    with _one_at_a_time, warnings.catch_warnings(), _opening(path):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return _opened(rasterio.open, path, **options)


def _opened(open_dataset: Callable[..., Any], path: str, **options: Any) -> Any:
    if path.startswith("<VRTDataset") and "VRTRawRasterBand" in path:
        with _any_bytes():
            return open_dataset(path, **options)
    if not is_over_network(path):
        return open_dataset(gdal_path(path), **options)

    def open_there() -> Any:
        import_rasterio()
        return open_dataset(gdal_path(path), **options)

    return opened_remotely(open_there)


@contextmanager
def _any_bytes() -> Iterator[None]:
    """While descriptions of bytes are opened that are our own: those in files of others stay within their folder."""
    from rasterio.env import set_gdal_config

    if _RAW in os.environ:
        yield
        return
    with _raw_at_a_time:
        set_gdal_config(_RAW, "ALL")
        try:
            yield
        finally:
            set_gdal_config(_RAW, "SIBLING_OR_CHILD_OF_VRT_PATH")


@contextmanager
def _opening(path: str) -> Iterator[None]:
    from rasterio.errors import RasterioError

    try:
        yield
    except RasterioError as error:
        if is_over_network(path):
            raise ImageError(why_not(path, all_said(error))) from error
        raise ImageError(
            f"{path} is not an image that GDAL can open, or it is damaged or cut off ({cause_of(error)})"
        ) from error


@functools.cache
def _pixel_reader() -> Any:
    from rasterio.io import DatasetReader

    class PixelReader(DatasetReader):
        def read_transform(self) -> list[float]:
            return [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]

    return PixelReader


def cause_of(error: BaseException) -> str:
    """What GDAL said, in a line."""
    # rasterio's own message points to the chained exception, which holds what GDAL said.
    said = error.__cause__ or error
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return lines[0].rstrip(".")


def all_said(error: BaseException) -> str:
    """All that GDAL said, the first cause first."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        said.insert(0, " ".join(str(cause).split()).rstrip("."))
        cause = cause.__cause__
    return "; ".join(dict.fromkeys(line for line in said if line and "previous exception" not in line))
