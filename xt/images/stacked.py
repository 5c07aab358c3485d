"""`stack`: several images on top of each other as channels of one, on the pixel grid of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, ImageError, ShapeError
from xt.images.blocks import block_cache
from xt.images.image import LargeImage
from xt.images.location import SAME_PLACE, apart
from xt.images.notes import BandNotes
from xt.images.orientation import as_stored
from xt.images.raster import RasterImage
from xt.images.resampled import same_field
from xt.images.warped import MapGrid, WarpedImage, check_resampling, is_located

# Two grids whose corners lie closer than this, in pixels, are one.
_SAME_PLACE = 1e-3


class StackImage(LargeImage):
    """Images of one grid as the channels of one image, in their order. Closing it closes them.

    Values are those of the files, in a type that holds them all. Where that is a float, everything missing is NaN;
    else a channel's missing pixels hold its file's nodata value, or 0, and `read_valid` tells them apart.
    """

    def __init__(
        self,
        layers: Sequence[LargeImage],
        reference: LargeImage,
        names: Sequence[str],
        images: Sequence[LargeImage] = (),
    ) -> None:
        """`images`: what the layers were made of, to be closed with them."""
        dtype = np.result_type(*(layer.dtype for layer in layers))
        super().__init__(
            "stack of " + ", ".join(layer.name for layer in layers),
            reference.level_shapes,
            sum(layer.channels for layer in layers),
            dtype,
            levels=reference.levels,
            microns_per_pixel=reference.microns_per_pixel,
            crs=reference.crs,
            transform=reference.transform,
            control=reference.control,
            nodata=_common_nodata(layers, dtype),
            channel_names=names,
        )
        self.layers = tuple(layers)
        self.alpha_bands = sum(layer.alpha_bands for layer in layers)
        self._images = tuple(images)
        self._firsts = np.cumsum([0, *(layer.channels for layer in layers)]).tolist()
        block_cache.widen(sum(layer.wanted_bytes for layer in layers if isinstance(layer, WarpedImage)))

    @property
    def has_nodata(self) -> bool:
        return any(layer.has_nodata for layer in self.layers)

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._read_valid(y, x, height, width, level)[0]

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        # Band after band in memory, which is what tensors want.
        pixels = np.empty((self.channels, height, width), self.dtype)
        valid = np.empty(pixels.shape, np.bool_)
        for layer, first in zip(self.layers, self._firsts[:-1], strict=True):
            part = slice(first, first + layer.channels)
            window, there = layer._read_level_valid(y, x, height, width, level)
            pixels[part], valid[part] = window.transpose(2, 0, 1), there.transpose(2, 0, 1)
        if self.dtype.kind == "f" and not valid.all():
            pixels[~valid] = np.nan
        return pixels.transpose(1, 2, 0), valid.transpose(1, 2, 0)

    def band_notes(self) -> tuple[BandNotes, ...]:
        notes = [each for layer in self.layers for each in layer.band_notes()]
        return tuple(
            replace(each, name=name) for each, name in zip(notes, self.channel_names or (), strict=True)
        )

    def _require_open(self) -> None:
        if self.closed:
            raise ImageError(f"{self.name} was closed; open it again to read from it")
        for layer in self.layers:
            layer._require_open()

    def close(self) -> None:
        super().close()
        for image in (*self.layers, *self._images):
            image.close()


def stack(
    images: Sequence[Any],
    names: Sequence[str] | None = None,
    resampling: str | Sequence[str] = "bilinear",
    reference: int = 0,
    *,
    same_field: bool = False,
    open_image: Callable[[Any], LargeImage],
) -> StackImage:
    """See `xt.stack`; `open_image` opens what is not an image yet."""
    if isinstance(images, (str, bytes)) or not len(images):
        raise ConfigError(f"a stack is made of a list of images or paths, at least one, not of {images!r}")
    if not -len(images) <= reference < len(images):
        raise ConfigError(
            f"reference is the place of an image in the stack, 0 to {len(images) - 1}, not {reference}"
        )
    methods = [resampling] * len(images) if isinstance(resampling, str) else list(resampling)
    if len(methods) != len(images):
        raise ConfigError(
            f"resampling is one for all or one for each image of a stack, got {len(methods)} for {len(images)} images"
        )
    opened: list[LargeImage] = []
    mine: list[LargeImage] = []
    try:
        for source in images:
            opened.append(open_image(source))
            if opened[-1] is not source:
                mine.append(opened[-1])
        base = opened[reference]
        channel_names = _channel_names(opened, names)
        layers: list[LargeImage] = []
        for image, method in zip(opened, methods, strict=True):
            check_resampling(method, image.name)
            layers.append(image if image is base else _on_grid_of(base, image, method, same_field))
        return StackImage(layers, base, channel_names, opened)
    except BaseException:
        for image in mine:
            image.close()
        raise


def _on_grid_of(base: LargeImage, image: LargeImage, resampling: str, any_ratio: bool) -> LargeImage:
    """The image with the pixels and levels of another."""
    grid, own = MapGrid.of(base), MapGrid.of(image)
    if base.transform is not None and image.transform is not None:
        if _same_place(base, image):
            return _with_levels_of(base, image, resampling)
        if grid is None or own is None:
            lacking = base if grid is None else image
            raise ConfigError(
                f"{base.name} and {image.name} lie at different places, but {lacking.name} names no coordinate system, "
                "so that they cannot be aligned; give the file one (gdal_edit -a_srs)"
            )
    # Of control points on one side at least.
    elsewhere = image.shape == base.shape and apart(base.location, image.location, base.shape) > SAME_PLACE
    if elsewhere and grid is None:
        raise ConfigError(
            f"{base.name} and {image.name} lie at different places, and no transform but control points locate "
            f"{base.name}, so that nothing can be aligned to it: rectify it first (gdalwarp), or stack it on the other "
            "(reference=)"
        )
    # Which way up a file is read does not matter where its coordinates say what lies where.
    stored = as_stored(image)
    warps = own is not None or (
        isinstance(stored, RasterImage)
        and (elsewhere or image.shape != base.shape)
        and is_located(stored.path)
    )
    if grid is not None and warps:
        if not isinstance(stored, RasterImage):
            raise ConfigError(
                f"{image.name} lies on another grid than {base.name} and is no file, but only files are aligned: stack "
                "the file, then crop, flip or resample the stack"
            )
        return WarpedImage(stored.path, grid, resampling, *stored.given)
    if image.shape == base.shape:
        return _with_levels_of(base, image, resampling)
    if not any_ratio and not _whole_ratio(base.shape, image.shape):
        unplaced = " and ".join(each.name for each in (base, image) if MapGrid.of(each) is None)
        raise ShapeError(
            f"{image.name} is {image.shape[0]} x {image.shape[1]} pixels and {base.name} is {base.shape[0]} x "
            f"{base.shape[1]}, and where on the map {unplaced} lies is not known: to be stacked they need one size, "
            "or sizes that are whole multiples; pass same_field=True if they show the same field all the same"
        )
    return _fitted(base, image, resampling)


def _with_levels_of(base: LargeImage, image: LargeImage, resampling: str) -> LargeImage:
    """An image of the same pixels, with the reference's levels: its own where it has them."""
    return image if image.level_shapes == base.level_shapes else _fitted(base, image, resampling)


def _fitted(base: LargeImage, image: LargeImage, resampling: str) -> LargeImage:
    if image.shape == base.shape:
        # Only for levels that it lacks.
        resampling = "nearest" if resampling in ("nearest", "mode") else "bilinear"
    return same_field(image, base, resampling, f"with the pixels of {base.name}")


def _same_place(base: LargeImage, image: LargeImage) -> bool:
    """Whether two images have the same pixels on the map."""
    assert base.transform is not None
    assert image.transform is not None
    if base.shape != image.shape or not _same_crs(base.crs, image.crs):
        return False
    a, b, _, d, e, _ = base.transform
    pixel = min(np.hypot(a, d), np.hypot(b, e))
    corners = np.array([(0, 0), (0, base.shape[0]), (base.shape[1], 0)], float)
    places = [
        corners @ np.array([[a, d], [b, e]]) + np.array([c, f])
        for a, b, c, d, e, f in (base.transform, image.transform)
    ]
    return bool(np.abs(places[0] - places[1]).max() < _SAME_PLACE * pixel)


def _same_crs(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    if one is None or other is None:
        return False
    from rasterio.crs import CRS

    return bool(CRS.from_user_input(one) == CRS.from_user_input(other))


def _whole_ratio(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one shape is the other times a whole number, the rounding of sizes that do not divide left aside."""
    for large, small in ((shape, other), (other, shape)):
        ratio = round(large[0] / small[0])
        if ratio >= 1 and all(abs(big - low * ratio) < ratio for big, low in zip(large, small, strict=True)):
            return True
    return False


def _common_nodata(layers: Sequence[LargeImage], dtype: np.dtype[Any]) -> float | None:
    if dtype.kind == "f":
        return float("nan") if any(layer.has_nodata for layer in layers) else None
    values = {layer.nodata for layer in layers}
    return values.pop() if len(values) == 1 else None


def _channel_names(images: Sequence[LargeImage], names: Sequence[str] | None) -> tuple[str, ...]:
    """One name a channel, from names of the images, of the channels, or the files' own."""
    channels = sum(image.channels for image in images)
    if names is not None and isinstance(names, str):
        raise ConfigError(f"names are a list, one for each image or channel of a stack, not {names!r}")
    if names is not None and len(names) == channels:
        return tuple(names)
    if names is not None and len(names) != len(images):
        raise ConfigError(
            f"a stack of {len(images)} images with {channels} channels takes {len(images)} or {channels} names, got "
            f"{len(names)}"
        )
    found: list[str] = []
    for image, name in zip(images, names or [Path(image.name).stem for image in images], strict=True):
        own = image.channel_names
        if image.channels == 1:
            found.append(own[0] if own is not None and names is None else name)
        elif own is not None and names is None:
            found += own
        else:
            found += [f"{name} {part}" for part in own or range(1, image.channels + 1)]
    if len(set(found)) < len(found) and names is None:
        # Two dates of one sensor: the channels' own names do not tell them apart.
        return _channel_names(images, _apart([Path(image.name).stem for image in images]))
    return tuple(found)


def _apart(names: Sequence[str]) -> list[str]:
    if len(set(names)) == len(names):
        return list(names)
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]
