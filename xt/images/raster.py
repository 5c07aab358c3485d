"""Everything GDAL reads, through rasterio: GeoTIFF in all layouts, COG, PNG, JPEG, JPEG 2000 and more."""

from __future__ import annotations

import functools
import os
import re
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xt.errors import ImageError, SlowImageWarning
from xt.images.bands import ALPHA, Alpha, Bands, bands_of, mask_has_levels
from xt.images.gdal import all_said, cause_of, open_for_facts, open_for_pixels, widen_cache
from xt.images.handles import HandlePool
from xt.images.image import LargeImage, check_dtype
from xt.images.location import Transform, control_of
from xt.images.notes import LAYOUTS, BandNotes, FileNotes, band_notes, file_notes
from xt.images.orientation import GdalFile, read_orientation
from xt.images.pixel_cache import new_owner
from xt.images.remote import gdal_path, is_over_network, url_of, why_not
from xt.images.storage import SEQUENTIAL_DRIVERS, Storage, check_claims, decoded_images, is_reduced

# Resolution tags of cameras and printers say some 80 to 350 micrometres; a microscope's are far finer.
_COARSEST_MICROSCOPE = 20.0
# By which the first description of an OME-TIFF is known.
_OME_MARK = "<OME "
_MICRONS_PER_UNIT = {"2": 25_400.0, "3": 10_000.0}

# Drivers whose bands are pictures one after the other.
_ANIMATED = frozenset(["GIF", "BIGGIF"])
# Before the name of a TIFF, which of its directories is meant.
_DIRECTORY = re.compile(r"^GTIFF_DIR:(off:)?\d+:")


class RasterImage(LargeImage):
    """A file that GDAL reads; its overviews are the levels.

    Bands are channels (of an OME-TIFF only those of its first directory), except for alpha, see `bands_of`. What is
    missing is what GDAL's own masks say. A palette is not applied: its indices are the pixels. Pixels are in the order
    stored: `open_image` turns them as `orientation_tag` says.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        nodata: float | None = None,
        alpha: Alpha = ALPHA,
        name: str | None = None,
    ) -> None:
        """`name`: for messages, where the path is none to show."""
        self.path = url_of(str(path))
        name = name or self.path
        self.given: tuple[float | None, Alpha] = (nodata, alpha)
        with open_for_facts(self.path) as dataset:
            self.bands, facts = describe(dataset, name, nodata, alpha)
            levels = _levels(dataset, self.path)
            self.driver: str = dataset.driver
            self.is_ome = _OME_MARK in dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
            self.storage = _storage(dataset)
            self.orientation_tag = read_orientation(dataset, functools.partial(_open_bytes, self.path))
            self.has_pages = _has_pages(dataset)
            self._one_type = len(set(dataset.dtypes)) == 1
            # If not, the mask of level 0 is read for all.
            self._masks_have_levels = len(levels) == 1 or all(
                mask_has_levels(dataset, band, self.path, levels[-1].number) for band in self.bands.masks
            )
        widen_cache(self.storage)
        super().__init__(
            name, [level.shape for level in levels], levels=[level.factor for level in levels], **facts
        )
        self.alpha_bands = int(self.bands.alpha is not None)
        if self.storage.slow and not self.is_ome:
            warnings.warn(slow_message(name, self.storage), SlowImageWarning, stacklevel=3)
        self._owner = new_owner()
        self._pools = [_pool(self.path, level.number, name) for level in levels]
        self._release = weakref.finalize(self, _release, self._pools, self._owner)

    @property
    def has_nodata(self) -> bool:
        return not self.bands.hold_all

    @property
    def misses_alike(self) -> bool:
        return self.bands.miss_alike

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._read_bands(y, x, height, width, level, self.bands.channels)

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        bands = self.bands
        masks = self._read_masks(y, x, height, width, level) if bands.masked else None
        if not bands.by_alpha:
            pixels = self._read(y, x, height, width, level)
            return pixels, bands.valid(pixels, None, masks)
        # In one go, as a PNG would be decoded twice otherwise.
        with_alpha = self._read_bands(y, x, height, width, level, self._all_read)
        pixels = with_alpha[..., :-1]
        return pixels, bands.valid(pixels, with_alpha[..., -1], masks)

    @property
    def _all_read(self) -> tuple[int, ...]:
        """The numbers of the bands that are read at all: the channels, then alpha if they go by it."""
        bands = self.bands
        return bands.channels if bands.alpha is None or not bands.by_alpha else (*bands.channels, bands.alpha)

    def _read_bands(
        self, y: int, x: int, height: int, width: int, level: int, bands: tuple[int, ...]
    ) -> np.ndarray:
        """(height, width, bands) of the first of `_all_read`."""
        if level == 0 and self.storage.decode_once:
            everything = self._all_read
            whole = decoded_images.get((self._owner,), lambda: self._decode(0, 0, *self.shape, 0, everything))
            return whole[y : y + height, x : x + width, : len(bands)].copy()
        return self._decode(y, x, height, width, level, bands)

    def _read_masks(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        """(height, width, 1 or as many as masked channels)"""
        if level == 0 and self.storage.decode_once:
            key = (self._owner, "masks")
            whole = decoded_images.get(key, lambda: self._decode_masks(0, 0, *self.shape, 0))
            return whole[y : y + height, x : x + width]
        return self._decode_masks(y, x, height, width, level)

    def _decode(
        self, y: int, x: int, height: int, width: int, level: int, bands: tuple[int, ...]
    ) -> np.ndarray:
        window = (y, x, height, width)
        with self._reading(window, level) as dataset:
            if self._one_type:
                return _channels_last(dataset.read(bands, window=_window(*window), out_dtype=self.dtype))
            # rasterio refuses bands of several types.
            read = [dataset.read(band, window=_window(*window), out_dtype=self.dtype) for band in bands]
            return _channels_last(np.stack(read))

    def _decode_masks(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        masks, window = self.bands.masks, (y, x, height, width)
        if level == 0 or self._masks_have_levels:
            with self._reading(window, level) as dataset:
                return _channels_last(dataset.read_masks(masks, window=_window(*window)))
        step_y, step_x = (full / low for full, low in zip(self.shape, self.level_shapes[level], strict=True))
        above = (y * step_y, x * step_x, height * step_y, width * step_x)
        with self._reading(window, level, of_level=0) as dataset:
            shape = (len(masks), height, width)
            return _channels_last(dataset.read_masks(masks, window=_window(*above), out_shape=shape))

    @contextmanager
    def _reading(
        self, window: tuple[int, int, int, int], level: int, of_level: int | None = None
    ) -> Iterator[Any]:
        """A dataset of a level; what is wrong with its file is said about the window that was asked for."""
        import rasterio.errors

        y, x, height, width = window
        with self._pools[level if of_level is None else of_level].borrow() as dataset:
            try:
                yield dataset
            except (rasterio.errors.RasterioError, OSError) as error:
                if is_over_network(self.path):
                    raise ImageError(why_not(self.path, all_said(error))) from error
                raise ImageError(
                    f"{self.name} is damaged or cut off: rows {y} to {y + height} and columns {x} to "
                    f"{x + width} of level {level} cannot be decoded ({cause_of(error)}); get the file again "
                    "from its source"
                ) from error

    def file_notes(self) -> FileNotes:
        with rasterio_dataset(self) as dataset:
            return file_notes(dataset)

    def band_notes(self) -> tuple[BandNotes, ...]:
        with rasterio_dataset(self) as dataset:
            return band_notes(dataset, self.bands.channels)

    def close(self) -> None:
        super().close()
        self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        # Handles do not travel to other processes: the image is opened anew there.
        return _reopen, (self.path, *self.given, self.name)


def _open_bytes(path: str) -> IO[bytes]:
    path = _DIRECTORY.sub("", path)
    return (
        open(path, "rb")
        if os.path.isfile(path)
        else cast(IO[bytes], GdalFile(gdal_path(path), open_for_pixels))
    )


@contextmanager
def rasterio_dataset(image: RasterImage) -> Iterator[Any]:
    """The image as rasterio's dataset, for what `LargeImage` does not tell (its transform is unset)."""
    with image._pools[0].borrow() as dataset:
        yield dataset


def _channels_last(bands: np.ndarray) -> np.ndarray:
    # GDAL delivers band after band; the view keeps that order in memory, which is what tensors want.
    return bands.transpose(1, 2, 0)


def _window(y: float, x: float, height: float, width: float) -> Any:
    from rasterio.windows import Window

    return Window(x, y, width, height)


def _reopen(path: str, nodata: float | None, alpha: Alpha, name: str) -> RasterImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowImageWarning)
        return RasterImage(path, nodata, alpha, name)


def _release(pools: list[HandlePool[Any]], owner: int) -> None:
    for pool in pools:
        pool.close()
    decoded_images.drop(owner)


def _pool(path: str, level: int, name: str) -> HandlePool[Any]:
    return HandlePool(name, lambda: open_for_pixels(path, level, name), lambda dataset: dataset.close())


def describe(
    dataset: Any, path: str, nodata: float | None = None, alpha: Alpha = ALPHA
) -> tuple[Bands, dict[str, Any]]:
    """A file's bands, and what a `LargeImage` says of itself.

    Raises:
        ImageError: there are no bands.
        PixelError: they are neither integers nor real floats.
        ConfigError: nodata or alpha do not fit, see `bands_of`.
    """
    if dataset.count == 0:
        inside = ", ".join(dataset.subdatasets[:3])
        hint = f"; it holds further images, open one of them: {inside}" if inside else ""
        raise ImageError(f"{path} has no bands to read{hint}")
    if dataset.driver in _ANIMATED and dataset.count > 1:
        raise ImageError(
            f"{path} is an animation of {dataset.count} pictures, which are no channels of one: save the one that is "
            "meant as PNG"
        )
    check_claims(path, dataset.count, _block_bytes(dataset))
    for name in sorted(set(dataset.dtypes)):
        check_dtype(np.dtype("complex64" if name == "complex_int16" else name), path)
    bands = bands_of(dataset, path, alpha, nodata)
    places = [band - 1 for band in bands.channels]
    transform: Transform | None = None
    if not dataset.transform.is_identity:
        transform = tuple(dataset.transform)[:6]
    control = control_of(dataset, path)
    crs = dataset.crs.to_string() if dataset.crs else None if control is None else control.crs
    return bands, {
        "channels": len(places),
        "dtype": np.result_type(*(dataset.dtypes[place] for place in places)),
        "nodata": bands.nodata,
        "crs": crs,
        "transform": transform,
        "control": control,
        "channel_names": _channel_names([dataset.descriptions[place] for place in places]),
        "microns_per_pixel": None if crs else _microns_per_pixel(dataset.tags()),
    }


def _channel_names(names: Sequence[str | None]) -> tuple[str, ...] | None:
    if not any(names):
        return None
    return tuple(name or f"band {number}" for number, name in enumerate(names, start=1))


def _microns_per_pixel(tags: dict[str, str]) -> tuple[float, float] | None:
    """From a TIFF's resolution tags, where they are a microscope's."""
    unit = _MICRONS_PER_UNIT.get(tags.get("TIFFTAG_RESOLUTIONUNIT", "")[:1])
    try:
        per_unit = float(tags["TIFFTAG_YRESOLUTION"]), float(tags["TIFFTAG_XRESOLUTION"])
    except (KeyError, ValueError):
        return None
    if unit is None or min(per_unit) <= 0:
        return None
    microns = unit / per_unit[0], unit / per_unit[1]
    return microns if max(microns) < _COARSEST_MICROSCOPE else None


class _Level(NamedTuple):
    number: int
    """0, or that of GDAL's overview and 1."""
    factor: float
    shape: tuple[int, int]


def _levels(dataset: Any, path: str) -> list[_Level]:
    """The full resolution and the overviews that all bands have, from fine to coarse.

    Of the pages of a TIFF, GDAL takes for an overview whatever is marked as reduced: pictures of a slide's label, other
    channels' levels. Those of another form are left out, and of one size all but the first.
    """
    levels = [_Level(0, 1.0, (dataset.height, dataset.width))]
    factors = min((dataset.overviews(band) for band in dataset.indexes), key=len)
    for number, factor in enumerate(factors, start=1):
        with open_for_pixels(path, number) as low:
            shape = low.height, low.width
            is_alike = low.dtypes == dataset.dtypes
        if is_alike and is_reduced(levels[0].shape, shape) and is_reduced(levels[-1].shape, shape):
            levels.append(_Level(number, float(factor), shape))
    return levels


def _has_pages(dataset: Any) -> bool:
    """Whether a TIFF has further pages, or says that there are some without directories of their own."""
    if dataset.driver != "GTiff" or dataset.name.startswith("GTIFF_DIR:"):
        return False
    said = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
    return len(dataset.subdatasets) > 1 or said.startswith(LAYOUTS)


def _block_bytes(dataset: Any) -> int:
    height, width = dataset.block_shapes[0]
    together = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    # Complex numbers and the like are refused later.
    item = np.dtype(dataset.dtypes[0]).itemsize if dataset.dtypes[0] != "complex_int16" else 4
    return int(height) * int(width) * item * together


def _storage(dataset: Any) -> Storage:
    height, width = dataset.block_shapes[0]
    return Storage(
        shape=(dataset.height, dataset.width),
        block=(height, width),
        bytes_per_pixel=sum(np.dtype(name).itemsize for name in dataset.dtypes),
        sequential=dataset.driver in SEQUENTIAL_DRIVERS,
    )


def slow_message(path: str, storage: Storage) -> str:
    height, width = storage.shape
    tiled = Path(path).with_suffix(".tiled.tif").name
    return (
        f"{path} ({height} x {width} pixels) is not stored in tiles: each small window decodes up to "
        f"{storage.window_bytes / 2**20:.0f} MB; convert it once with: xt tile {path} {tiled}"
    )
