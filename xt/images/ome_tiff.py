"""OME-TIFF: many channels, time points and focal planes, with levels; laid out by tifffile, decoded by GDAL."""

from __future__ import annotations

import functools
import math
import os
import warnings
import weakref
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from xt.errors import ImageError, MissingPackageError, SlowImageWarning, XTError
from xt.images.bands import ALPHA, Alpha
from xt.images.gdal import cause_of, import_rasterio, open_for_pixels, widen_cache
from xt.images.handles import HandlePool
from xt.images.image import LargeImage, check_dtype, check_nodata, is_data
from xt.images.ome import Plane, channel_names, in_microns
from xt.images.raster import slow_message
from xt.images.storage import MOST_PLANES, Storage, check_claims


@dataclass(frozen=True)
class _Layout:
    """Where a plane's pixels lie: each channel (or each RGB) of each level is a directory of a TIFF file."""

    level_shapes: list[tuple[int, int]]
    samples: int
    """Channels in one directory, alpha included."""
    alphas: tuple[int, ...]
    """Which of them are alpha, from 1."""
    places: list[list[tuple[str, int]]]
    """(file, offset of the directory) for each level and each of its directories."""
    dtype: np.dtype[Any]
    storage: Storage
    microns_per_pixel: tuple[float, float] | None
    channel_names: list[str | None]


class OmeTiffImage(LargeImage):
    """One time point and focal plane of an OME-TIFF, with all its channels.

    Args:
        plane: which time point, focal plane and image of the file.
    Raises:
        ImageError: the file is damaged or no OME-TIFF, or lacks a plane.
        ConfigError: there is no such plane.
        MissingPackageError: tifffile is not installed.
    """

    driver = "OME-TIFF"

    def __init__(
        self,
        path: str | os.PathLike[str],
        nodata: float | None = None,
        plane: Plane | None = None,
        alpha: Alpha = ALPHA,
    ) -> None:
        self.path = str(path)
        self._arguments = (self.path, nodata, plane or Plane(), alpha)
        layout = _read_layout(self.path, plane or Plane())
        alphas = layout.alphas if alpha == ALPHA else ()
        self._colours = [sample for sample in range(1, layout.samples + 1) if sample not in alphas]
        self._alpha = alphas[-1] if alphas else None
        super().__init__(
            self.path,
            layout.level_shapes,
            len(self._colours) * len(layout.places[0]),
            layout.dtype,
            microns_per_pixel=layout.microns_per_pixel,
            nodata=check_nodata(nodata, layout.dtype, self.path),
            channel_names=_names(layout.channel_names, len(self._colours), len(layout.places[0])),
        )
        self.storage = layout.storage
        self.alpha_bands = len(alphas) * len(layout.places[0])
        self._samples = layout.samples
        import_rasterio()
        widen_cache(self.storage)
        if self.storage.slow:
            warnings.warn(slow_message(self.path, self.storage), SlowImageWarning, stacklevel=3)
        self._pools = [[_pool(self.path, *place) for place in level] for level in layout.places]
        self._release = weakref.finalize(self, _release, [pool for level in self._pools for pool in level])

    @property
    def has_nodata(self) -> bool:
        return self._alpha is not None or super().has_nodata

    @property
    def misses_alike(self) -> bool:
        return self.channels == len(self._colours) and self.nodata is None

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._read_samples(y, x, height, width, level, self._colours)

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        if self._alpha is None:
            return super()._read_valid(y, x, height, width, level)
        samples = [*self._colours, self._alpha]
        read = self._read_samples(y, x, height, width, level, samples)
        by_directory = read.reshape(height, width, -1, len(samples))
        pixels = by_directory[..., :-1].reshape(height, width, -1)
        valid = np.repeat(by_directory[..., -1] > 0, len(self._colours), axis=-1)
        return pixels, valid & is_data(pixels, self.nodata_values)

    def _read_samples(
        self, y: int, x: int, height: int, width: int, level: int, samples: list[int]
    ) -> np.ndarray:
        """(height, width, directories times samples)"""
        import rasterio.errors
        from rasterio.windows import Window

        # Band after band in memory, which is what tensors want.
        bands = np.empty((len(samples) * len(self._pools[level]), height, width), self.dtype)
        for number, pool in enumerate(self._pools[level]):
            with pool.borrow() as dataset:
                if (dataset.count, dataset.shape) != (self._samples, self.level_shapes[level]):
                    raise ImageError(
                        f"{self.path} says that a plane of level {level} has {self._samples} channels and "
                        f"{_size(self.level_shapes[level])} pixels, but GDAL decodes {dataset.count} and "
                        f"{_size(dataset.shape)}: it is damaged"
                    )
                try:
                    pixels = dataset.read(samples, window=Window(x, y, width, height))
                except (rasterio.errors.RasterioError, OSError) as error:
                    raise ImageError(
                        f"{self.path} is damaged or cut off: rows {y} to {y + height} and columns {x} to {x + width} "
                        f"of level {level} cannot be decoded ({cause_of(error)}); get the file again from its source"
                    ) from error
            bands[number * len(samples) : (number + 1) * len(samples)] = pixels
        return bands.transpose(1, 2, 0)

    def close(self) -> None:
        super().close()
        self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        # Handles do not travel to other processes: the file is opened anew there.
        return _reopen, self._arguments


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _reopen(path: str, nodata: float | None, plane: Plane, alpha: Alpha) -> OmeTiffImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowImageWarning)
        return OmeTiffImage(path, nodata, plane, alpha)


def _pool(name: str, path: str, offset: int) -> HandlePool[Any]:
    # GDAL's way to name one directory of a TIFF.
    directory = f"GTIFF_DIR:off:{offset}:{path}"
    opening = functools.partial(open_for_pixels, directory, name=name)
    return HandlePool(name, opening, lambda dataset: dataset.close())


def _release(pools: list[HandlePool[Any]]) -> None:
    for pool in pools:
        pool.close()


def _read_layout(path: str, plane: Plane) -> _Layout:
    try:
        import tifffile
    except ImportError as error:
        raise MissingPackageError("OME-TIFF files are read through tifffile: pip install tifffile") from error
    try:
        with tifffile.TiffFile(path) as file:
            if not file.is_ome:
                raise ImageError(f"{path} is no OME-TIFF: it has no OME-XML in its first description")
            _check_planes(file.ome_metadata, path)
            plane.check(path, series=len(file.series))
            return _layout(file.series[plane.series], _describe(file.ome_metadata, plane.series), path, plane)
    except XTError:
        raise
    except Exception as error:  # tifffile raises whatever the damage leads to
        raise ImageError(
            f"{path} is no OME-TIFF that tifffile can open, or it is damaged or cut off ({error})"
        ) from error


def _layout(series: Any, pixels: ElementTree.Element | None, path: str, plane: Plane) -> _Layout:
    axes, shape = series.axes, series.shape  # without those of length 1
    sizes = dict(zip(axes, shape, strict=True))
    others = [axis for axis, size in sizes.items() if axis not in "TZCYXS" and size > 1]
    if others:
        raise ImageError(
            f"{path} has the axes {axes}; only time (T), focal planes (Z) and channels (C) are known here"
        )
    plane.check(path, time=sizes.get("T", 1), z=sizes.get("Z", 1))
    key = series.keyframe
    samples = sizes.get("S", 1)
    check_claims(path, sizes.get("C", 1) * samples, _block_bytes(key))
    # What is left of a directory's own axes counts the directories.
    leading = {axis: size for axis, size in sizes.items() if axis not in "YXS"}
    places_of = np.arange(int(np.prod(list(leading.values())))).reshape(tuple(leading.values()))
    chosen: dict[str, Any] = {"T": plane.time, "Z": plane.z, "C": slice(None)}
    directories = np.atleast_1d(places_of[tuple(chosen.get(axis, 0) for axis in leading)]).tolist()
    shapes: list[tuple[int, int]] = []
    places: list[list[tuple[str, int]]] = []
    for level in series.levels:
        low = dict(zip(level.axes, level.shape, strict=True))
        shapes.append((low["Y"], low["X"]))
        pages = [level.pages[number] for number in directories]
        if any(page is None for page in pages):
            missing = next(number for number, page in enumerate(pages) if page is None)
            raise ImageError(
                f"{path} lacks channel {missing} at time={plane.time}, z={plane.z}: the file is incomplete"
            )
        places.append([(str(page.parent.filehandle.path), int(page.offset)) for page in pages])
    dtype = check_dtype(np.dtype(key.dtype), path)
    block = (
        (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip or shapes[0][0], shapes[0][1])
    )
    return _Layout(
        level_shapes=shapes,
        samples=samples,
        alphas=_alphas(key, samples),
        places=places,
        dtype=dtype.newbyteorder("="),
        storage=Storage(
            shape=shapes[0],
            block=(min(block[0], shapes[0][0]), block[1]),
            bytes_per_pixel=dtype.itemsize * samples * len(directories),
        ),
        microns_per_pixel=None if pixels is None else _microns(pixels),
        channel_names=[]
        if pixels is None
        else [part.get("Name") for part in pixels if part.tag.endswith("}Channel")],
    )


def _block_bytes(page: Any) -> int:
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    )
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return int(min(rows or page.imagelength, page.imagelength)) * int(columns) * samples * page.dtype.itemsize


def _check_planes(xml: str | None, path: str) -> None:
    """Before tifffile makes a list of as many planes as the description says.

    Raises:
        ImageError: they are more than can be.
    """
    for pixels in ElementTree.fromstring((xml or "<OME/>").encode()).iter():
        if pixels.tag.endswith("}Pixels"):
            sizes = [int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"]
            if math.prod(sizes) > MOST_PLANES:
                raise ImageError(
                    f"{path} says that it has {sizes[0]:,} channels, {sizes[1]:,} focal planes and {sizes[2]:,} time "
                    "points, which no file holds: it is damaged"
                )
            # Of pictures in colour the samples count as channels here.
            check_claims(path, sizes[0], 0)


def _describe(xml: str | None, series: int) -> ElementTree.Element | None:
    """The element that describes an image's pixels; None if it is in another file."""
    if xml is None:
        return None
    images = [image for image in ElementTree.fromstring(xml.encode()) if image.tag.endswith("}Image")]
    if series >= len(images):
        return None
    return next((part for part in images[series] if part.tag.endswith("}Pixels")), None)


def _microns(pixels: ElementTree.Element) -> tuple[float, float] | None:
    try:
        lengths = float(pixels.attrib["PhysicalSizeY"]), float(pixels.attrib["PhysicalSizeX"])
    except (KeyError, ValueError):
        return None
    # Micrometres are the standard's default.
    units = (pixels.get("PhysicalSizeYUnit", "µm"), pixels.get("PhysicalSizeXUnit", "µm"))
    return in_microns(lengths, units)


def _names(names: list[str | None], samples: int, directories: int) -> tuple[str, ...] | None:
    if len(names) != directories or not any(names):
        return None
    if samples == 1:
        return channel_names(names)
    whole = channel_names(names) or ()
    return tuple(f"{name} {sample}" for name in whole for sample in range(1, samples + 1))


def _alphas(key: Any, samples: int) -> tuple[int, ...]:
    """The samples that a directory's tag calls alpha, with colours multiplied by it or not."""
    extra = tuple(key.extrasamples or ())
    found = tuple(
        samples - len(extra) + place for place, kind in enumerate(extra, start=1) if int(kind) in (1, 2)
    )
    return found if len(found) < samples else ()
