"""A file on the pixel grid of another image, through GDAL's warped virtual dataset: any coordinate system, any size."""

from __future__ import annotations

import functools
import os
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, ImageError
from xt.images.bands import ALPHA, Alpha, Bands, mask_has_levels
from xt.images.blocks import block_cache, read_blocks
from xt.images.gdal import cause_of, open_for_facts, open_for_pixels
from xt.images.handles import HandlePool
from xt.images.image import LargeImage, same
from xt.images.location import Transform, compose, inverse
from xt.images.nan_where_missing import nan_where_missing
from xt.images.notes import BandNotes, band_notes
from xt.images.pixel_cache import new_owner
from xt.images.raster import describe
from xt.images.remote import gdal_path

# GDAL works out a warp block by block, and interpolates positions within each to an eighth of a source pixel: always
# the same blocks are asked for, so that windows have no seams and can be put together in any way.
_BLOCK = (128, 512)
# Rows of blocks under a row of regions of 256 pixels with a halo of 64, and one.
_ROWS_KEPT = 5
_NAN = float("nan")
_METHODS = ("bilinear", "nearest", "cubic", "average", "mode")


@dataclass(frozen=True)
class MapGrid:
    """The pixels of an image on the map."""

    level_shapes: tuple[tuple[int, int], ...]
    levels: tuple[float, ...]
    crs: str
    transform: Transform

    @staticmethod
    def of(image: LargeImage) -> MapGrid | None:
        """None if the image does not say where it lies."""
        if image.crs is None or image.transform is None:
            return None
        return MapGrid(image.level_shapes, image.levels, image.crs, image.transform)

    def level_transform(self, level: int) -> Transform:
        (height, width), (low_height, low_width) = self.level_shapes[0], self.level_shapes[level]
        return compose(self.transform, (width / low_width, 0, 0, 0, height / low_height, 0))


class WarpedImage(LargeImage):
    """A file as it would be if it had been taken on another image's grid, warped as it is read.

    Every channel has a mask of its own: what the file does not cover is missing, and so is what comes from its nodata
    (for a file of floats also from its NaN). Values are those of the file's type; only for it are means rounded.

    Args:
        grid: whose pixels these are; all its levels are here too.
        resampling: "bilinear", "nearest", "cubic", "average" or "mode", as GDAL means them.
        nodata: instead of the file's own.
        alpha: see `xt.open_image`.
    Raises:
        ConfigError: there is no such resampling, or the file says nothing of where it lies.
        ImageError: the file is missing or damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        grid: MapGrid,
        resampling: str = "bilinear",
        nodata: float | None = None,
        alpha: Alpha = ALPHA,
    ) -> None:
        self.path = str(path)
        self.resampling = check_resampling(resampling, self.path)
        self._arguments = (self.path, grid, resampling, nodata, alpha)
        with open_for_facts(self.path) as dataset:
            bands, facts = describe(dataset, self.path, nodata, alpha)
            if not _is_located(dataset):
                raise ConfigError(
                    f"{self.path} has no coordinate system, so that it cannot be aligned by its map position"
                )
            overviews = min((dataset.overviews(band) for band in dataset.indexes), key=len)
            if not all(mask_has_levels(dataset, band, self.path, len(overviews)) for band in bands.masks):
                overviews = []
        self._bands = bands
        dtype = facts["dtype"]
        super().__init__(
            f"{self.path} (aligned)",
            grid.level_shapes,
            facts["channels"],
            dtype,
            levels=grid.levels,
            crs=grid.crs,
            transform=grid.transform,
            nodata=float("nan") if dtype.kind == "f" else bands.nodata,
            channel_names=facts["channel_names"],
        )
        working = "float32" if dtype.itemsize <= 2 or dtype == np.float32 else "float64"
        self.alpha_bands = int(bands.alpha is not None)
        self._working = np.dtype(working)
        recipe = _Recipe(self.path, grid, resampling, bands, working, tuple(overviews))
        # Worked out once for each level, by the first read of it.
        description = functools.cache(recipe.description)
        self._pools: list[HandlePool[Any]] = [
            HandlePool(
                self.path,
                functools.partial(_open, description, level, self.path),
                lambda opened: opened.close(),
            )
            for level in range(len(grid.level_shapes))
        ]
        self._owner = new_owner()
        self._release = weakref.finalize(self, _release, self._pools, self._owner)
        block_cache.widen(self.wanted_bytes)

    @property
    def has_nodata(self) -> bool:
        return True

    @property
    def wanted_bytes(self) -> int:
        """Of blocks, to make each only once."""
        height, width = _BLOCK
        return (
            _ROWS_KEPT * height * -(-self.shape[1] // width) * width * self.channels * self._working.itemsize
        )

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._read_valid(y, x, height, width, level)[0]

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        values = np.empty((height, width, self.channels), self._working)

        def block(row: int, column: int) -> np.ndarray:
            return block_cache.get((self._owner, level, row, column), lambda: self._warp(row, column, level))

        read_blocks((y, x, height, width), _BLOCK, block, values)
        valid = np.isfinite(values)
        return self._in_own_type(values, valid), valid

    def _warp(self, row: int, column: int, level: int) -> np.ndarray:
        import rasterio.errors
        from rasterio.windows import Window

        y, x = row * _BLOCK[0], column * _BLOCK[1]
        height, width = (
            min(size, side - start)
            for size, side, start in zip(_BLOCK, self.level_shapes[level], (y, x), strict=True)
        )
        with self._pools[level].borrow() as dataset:
            try:
                bands: np.ndarray = dataset.read(window=Window(x, y, width, height))
            except (rasterio.errors.RasterioError, OSError) as error:
                raise ImageError(
                    f"{self.path} is damaged or cut off, or cannot be aligned: rows {y} to {y + height} and columns "
                    f"{x} to {x + width} of level {level} of the grid it is aligned to cannot be made "
                    f"({cause_of(error)}); get the file again from its source"
                ) from error
        return bands.transpose(1, 2, 0)

    def _in_own_type(self, values: np.ndarray, valid: NDArray[np.bool_]) -> np.ndarray:
        if self.dtype.kind == "f":
            # The mask says that infinity is missing, as NaN is.
            values[~valid] = np.nan
            return values.astype(self.dtype, copy=False)
        values[~valid] = self.fill
        if self.dtype.kind == "b":
            return values >= 0.5
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(self.dtype)

    def band_notes(self) -> tuple[BandNotes, ...]:
        with open_for_facts(self.path) as dataset:
            return tuple(notes.without_statistics() for notes in band_notes(dataset, self._bands.channels))

    def close(self) -> None:
        super().close()
        self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        # Handles do not travel to other processes: the file is opened anew there.
        return WarpedImage, self._arguments


def check_resampling(resampling: str, name: str) -> str:
    """A method of GDAL's that makes sense for pixels.

    Raises:
        ConfigError: there is no such method.
    """
    if resampling not in _METHODS:
        known = ", ".join(map(repr, _METHODS))
        raise ConfigError(f"{name} can be resampled by {known}, not by {resampling!r}")
    return resampling


def is_located(path: str) -> bool:
    """Whether a file says where it lies on the map: by coordinates or by ground control points."""
    with open_for_facts(path) as dataset:
        return _is_located(dataset)


@dataclass(frozen=True)
class _Recipe:
    """How a file comes onto a grid."""

    path: str
    grid: MapGrid
    resampling: str
    bands: Bands
    working: str
    overviews: tuple[int, ...]

    def description(self, level: int) -> str:
        """GDAL's virtual dataset of a level, as XML."""
        from rasterio._err import CPLE_BaseError
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.vrt import WarpedVRT

        overview = self._overview(level)
        opening = {} if overview is None else {"overview_level": overview}
        try:
            with (
                open_for_facts(self.path, **opening) as own,
                self._with_one_nodata(own, overview) as (dataset, nodata),
                WarpedVRT(
                    dataset,
                    src_crs=dataset.crs or dataset.gcps[1],
                    crs=self.grid.crs,
                    resampling=Resampling[self.resampling],
                    src_nodata=nodata,
                    nodata=_NAN,
                    dtype=self.working,
                ) as warped,
            ):
                text: str = warped.tags(ns="xml:VRT")["xml:VRT"]
        except (RasterioError, CPLE_BaseError) as error:
            raise ImageError(
                f"{self.path} cannot be aligned to {self.grid.crs} ({cause_of(error)})"
            ) from error
        return _channels_apart(
            _on_grid(text, self.grid.level_shapes[level], self.grid.level_transform(level))
        )

    @contextmanager
    def _with_one_nodata(self, dataset: Any, overview: int | None) -> Iterator[tuple[Any, float]]:
        """The dataset, or a virtual one, in which what is missing has one value; and that value."""
        bands = self.bands
        plain = not bands.masked and len(bands.channels) == dataset.count
        if plain and same(bands.nodata):
            yield dataset, _NAN if bands.nodata[0] is None else bands.nodata[0]
            return
        description = nan_where_missing(dataset, gdal_path(self.path), bands, self.working, overview)
        with open_for_facts(description) as virtual:
            yield virtual, _NAN

    def _overview(self, level: int) -> int | None:
        """The file's coarsest overview that is finer than what is asked for; None for its full resolution.

        GDAL would read every pixel of the full resolution for a mean.
        """
        if self.resampling in ("nearest", "mode") or not self.overviews:
            return None
        ratio = self._shrinks(level)
        enough = [number for number, factor in enumerate(self.overviews) if 2 * factor <= ratio]
        return max(enough, default=None)

    def _shrinks(self, level: int) -> float:
        """How many of the file's pixels one of the grid spans, at the least: at nine places and along both axes."""
        from rasterio.errors import RasterioError
        from rasterio.warp import transform as to_crs

        with open_for_facts(self.path) as dataset:
            if dataset.crs is None:
                return 1.0
            crs, (a, b, _, d, e, _) = dataset.crs, tuple(dataset.transform)[:6]
        height, width = self.grid.level_shapes[level]
        y, x = (
            axis.reshape(-1, 1)
            for axis in np.meshgrid(np.linspace(0, height, 3), np.linspace(0, width, 3), indexing="ij")
        )
        # Each place, the one a pixel to the right, and the one a pixel below.
        y, x = y + np.array([0, 0, 1]), x + np.array([0, 1, 0])
        ga, gb, gc, gd, ge, gf = self.grid.level_transform(level)
        try:
            map_x, map_y = to_crs(
                self.grid.crs, crs, (ga * x + gb * y + gc).ravel(), (gd * x + ge * y + gf).ravel()
            )
        except RasterioError:
            return 1.0
        places = np.stack([map_x, map_y], axis=-1).reshape(-1, 3, 2)
        moved = (places[:, 1:] - places[:, :1]) @ np.linalg.inv([[a, b], [d, e]]).T
        lengths = np.hypot(moved[..., 0], moved[..., 1])
        finite = lengths[np.isfinite(lengths)]
        return float(finite.min()) if len(finite) else 1.0


def _is_located(dataset: Any) -> bool:
    points, crs = dataset.gcps
    return bool((dataset.crs and not dataset.transform.is_identity) or (points and crs))


def _on_grid(description: str, shape: tuple[int, int], transform: Transform) -> str:
    """A virtual dataset with other pixels.

    rasterio takes them too, but then leaves out ground control points.
    """
    text = re.sub(r'rasterXSize="\d+"', f'rasterXSize="{shape[1]}"', description, count=1)
    text = re.sub(r'rasterYSize="\d+"', f'rasterYSize="{shape[0]}"', text, count=1)
    for tag, numbers in (
        ("GeoTransform", transform),
        ("DstGeoTransform", transform),
        ("DstInvGeoTransform", inverse(transform)),
    ):
        a, b, c, d, e, f = numbers
        values = ",".join(repr(float(value)) for value in (c, a, b, f, d, e))
        text = re.sub(rf"<{tag}>[^<]*</{tag}>", f"<{tag}>{values}</{tag}>", text)
    return text


def _channels_apart(description: str) -> str:
    """A virtual dataset in which each channel has a mask of its own, and alpha, if there is one, is a channel.

    rasterio writes that a pixel is missing if all its channels are, and cuts pixels out by the alpha channel.
    """
    text = description.replace(
        '<Option name="UNIFIED_SRC_NODATA">YES</Option>', '<Option name="UNIFIED_SRC_NODATA">NO</Option>'
    )
    text = re.sub(r"<(Src|Dst)AlphaBand>\d+</\1AlphaBand>", "", text)
    for axis, size in zip("YX", _BLOCK, strict=True):
        text = re.sub(rf"<Block{axis}Size>\d+<", f"<Block{axis}Size>{size}<", text)
    return text


def _open(description: Callable[[int], str], level: int, name: str) -> Any:
    return open_for_pixels(description(level), name=name)


def _release(pools: list[HandlePool[Any]], owner: int) -> None:
    for pool in pools:
        pool.close()
    block_cache.drop(owner)
