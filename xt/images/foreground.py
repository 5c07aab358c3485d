"""Which parts of an image are worth reading, decided on a low level: nodata, tissue on glass, or a user's mask.

The grid skips regions without foreground. A mask spans the whole image at whatever resolution is at hand; where an
image has no pyramid it is read once in stripes of bounded size, and small squares become single values.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from xt.errors import ConfigError, ShapeError
from xt.images.image import LargeImage
from xt.images.opening import open_image

Kind = Literal["nodata", "tissue"] | str | os.PathLike[str] | np.ndarray | LargeImage | Callable[..., Any]

# The longer side of what is looked at: 16 pixels for each region of 256 in an image of 65,536.
MAX_SIDE = 4096
_STRIPE_BYTES = 32 * 2**20
_FIRST_SIDE = 256
# Below this saturation (of 255) nothing is tissue, however clean the rest of the glass is.
_LEAST_SATURATION = 13
# A photograph's aspect may differ by rounding of its size, a mask of another image by more.
_ASPECT_TOLERANCE = 0.02


def foreground_mask(image: LargeImage, kind: Kind = "nodata", max_side: int = MAX_SIDE) -> np.ndarray:
    """A boolean array (rows, columns) over the whole image at low resolution, True where there is foreground.

    Args:
        image: any size; at most a stripe of it is in memory at a time.
        kind: "nodata": pixels of which any channel holds data. "tissue": saturated pixels, by Otsu's threshold,
            for stained tissue on bright glass. A path, an array or a LargeImage: a mask of the same extent at any
            resolution, in which anything but 0 and nodata is foreground. A function: gets the image and returns
            such an array.
        max_side: the longer side of the result is at most this, in pixels.
    Raises:
        ConfigError: the kind is unknown, or nothing of the image can be missing.
        ShapeError: the image is not RGB, or the mask does not have its shape.
    """
    if isinstance(kind, str) and kind == "nodata":
        return _with_data(image, max_side)
    if isinstance(kind, str) and kind == "tissue":
        return _tissue(image, max_side)
    if callable(kind) and not isinstance(kind, np.ndarray):
        return _given(np.asarray(kind(image)), image)
    if isinstance(kind, str) and not os.path.exists(kind) and os.path.splitext(kind)[1] == "":
        raise ConfigError(
            f'foreground is "nodata", "tissue", or the path of a mask image that exists; got {kind!r}'
        )
    return _from_mask(image, kind, max_side)


def has_data(image: LargeImage) -> bool:
    """Whether any pixel holds data, by what `foreground_mask` looks at; no more is read than it takes to find one."""
    if not image.has_nodata:
        return True
    view = image.at_level(_level_for(image, MAX_SIDE))
    height, width = view.shape
    # The middle has some nearly always.
    y, x = max(0, height // 2 - _FIRST_SIDE // 2), max(0, width // 2 - _FIRST_SIDE // 2)
    if _read_data(view, y, x, min(_FIRST_SIDE, height), min(_FIRST_SIDE, width)).any():
        return True
    rows = max(1, _STRIPE_BYTES // (width * view.channels * view.dtype.itemsize))
    return any(_read_data(view, y, 0, min(rows, height - y), width).any() for y in range(0, height, rows))


def low_resolution(
    image: LargeImage,
    max_side: int,
    reduce: Callable[[np.ndarray], np.ndarray],
    pick: bool = False,
    read: Callable[[LargeImage, int, int, int, int], np.ndarray] = LargeImage.read,
) -> np.ndarray:
    """A value for each small square of the image, with the longer side at most `max_side`: (rows, columns).

    The smallest level that is large enough is read in stripes, so that memory is bounded without a pyramid too.

    Args:
        reduce: pixels (h, w, channels) to one value each, (h, w).
        pick: take the middle pixel of each square instead of asking whether any of its values is true.
        read: a window of the level, as (h, w, channels) of anything.
    """
    level = _level_for(image, max_side)
    height, width = image.level_shapes[level]
    step = math.ceil(max(height, width) / max_side)
    bytes_per_row = width * image.channels * image.dtype.itemsize
    rows = max(1, _STRIPE_BYTES // (bytes_per_row * step)) * step
    view = image.at_level(level)
    stripes = []
    for y in range(0, height, rows):
        pixels = read(view, y, 0, min(rows, height - y), width)
        stripes.append(reduce(_middles(pixels, step)) if pick else _any_in_squares(reduce(pixels), step))
    return np.concatenate(stripes)


def _middles(pixels: np.ndarray, step: int) -> np.ndarray:
    # The last square may be narrower than half a step.
    y, x = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in pixels.shape[:2])
    return pixels[y[:, np.newaxis], x]


def _any_in_squares(marked: np.ndarray, step: int) -> np.ndarray:
    starts_y, starts_x = (np.arange(0, size, step) for size in marked.shape)
    by_rows = np.logical_or.reduceat(marked, starts_y, axis=0)
    return np.asarray(np.logical_or.reduceat(by_rows, starts_x, axis=1))


def otsu_threshold(values: np.ndarray) -> int:
    """The value of 0 to 255 that best parts a uint8 array in two: Otsu 1979, between-class variance.

    Values above the threshold are the upper class; with one value only, that value is returned.
    """
    counts = np.bincount(values.reshape(-1), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    weighted = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = weighted / below - (weighted[-1] - weighted) / above
        variance = np.nan_to_num(below * above * difference**2, nan=0.0, posinf=0.0)
    if variance.max() == 0:
        return int(counts.argmax())
    return int(variance.argmax())


def _level_for(image: LargeImage, max_side: int) -> int:
    large_enough = [level for level, shape in enumerate(image.level_shapes) if max(shape) >= max_side]
    return large_enough[-1] if large_enough else 0


def _with_data(image: LargeImage, max_side: int) -> np.ndarray:
    if not image.has_nodata:
        raise ConfigError(
            f"{image.name} has neither a nodata value nor a mask or alpha, so that nothing could be left out; "
            "say which value means nothing (nodata=, --nodata or data.nodata) or choose another foreground"
        )
    return low_resolution(image, max_side, lambda valid: np.asarray(valid.any(axis=2)), read=_read_data)


def _read_data(image: LargeImage, y: int, x: int, height: int, width: int) -> np.ndarray:
    return image.read_usable(y, x, height, width)[1]


def _read_marked(mask: LargeImage, y: int, x: int, height: int, width: int) -> np.ndarray:
    pixels, valid = mask.read_usable(y, x, height, width)
    return (np.nan_to_num(pixels) != 0) & valid


def _tissue(image: LargeImage, max_side: int) -> np.ndarray:
    if image.channels != 3 or image.dtype != np.uint8:
        raise ShapeError(
            f'foreground "tissue" is for 8-bit RGB, but {image.name} has {image.channels} channels of '
            f"{image.dtype}; use a mask image"
        )
    # Compression leaves single coloured pixels on the glass and pale ones in the tissue.
    saturation = _smoothed(low_resolution(image, max_side, _saturation, pick=True))
    mask = saturation > max(otsu_threshold(saturation), _LEAST_SATURATION)
    return _closed(mask)


def _saturation(rgb: np.ndarray) -> np.ndarray:
    """Saturation of HSV, 0 to 255; near black (pen, shadow, scanner border) it says nothing, so 0 there."""
    high = rgb.max(axis=2).astype(np.uint16)
    low = rgb.min(axis=2)
    saturation = 255 * (high - low) // np.maximum(high, 1)
    return np.where(high < 32, 0, saturation).astype(np.uint8)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Means of 3 x 3, rounded down; at the border its own values are those beyond it."""
    from scipy import ndimage

    total = ndimage.correlate(values, np.ones((3, 3)), np.uint16, mode="nearest")
    return (total // 9).astype(np.uint8)


def _closed(mask: np.ndarray) -> np.ndarray:
    """Holes and gaps of up to two pixels filled: dilation by 3 x 3, then erosion, neither from beyond the border."""
    from scipy import ndimage

    around = np.ones((3, 3), bool)
    grown = ndimage.binary_dilation(mask, around)
    closed: np.ndarray = ndimage.binary_erosion(grown, around, border_value=1)
    return closed


def _from_mask(image: LargeImage, source: Any, max_side: int) -> np.ndarray:
    mask = open_image(source)
    try:
        _check_extent(mask.shape, image, mask.name)

        return low_resolution(
            mask, max_side, lambda marked: np.asarray(marked.any(axis=2)), read=_read_marked
        )
    finally:
        if mask is not source:
            mask.close()


def _given(mask: np.ndarray, image: LargeImage) -> np.ndarray:
    if mask.ndim != 2:
        raise ShapeError(f"a foreground function must return (rows, columns), not the shape {mask.shape}")
    _check_extent(mask.shape, image, "the foreground function's mask")
    return mask != 0


def _check_extent(shape: tuple[int, ...], image: LargeImage, name: str) -> None:
    height, width = image.shape
    # Of a small mask, half a pixel more or less is the rounding of its size.
    slack = _ASPECT_TOLERANCE + 0.5 / min(shape)
    if abs(math.log((shape[0] / shape[1]) / (height / width))) > slack:
        raise ShapeError(
            f"a mask must span the whole image, but {name} is {shape[0]} x {shape[1]} and {image.name} is "
            f"{height} x {width} pixels"
        )
