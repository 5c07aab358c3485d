"""A small picture of a large image, in bounded memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xt.images import LargeImage

# What one thread reads at a time, in pixels a side.
_WINDOW = 1024
_THREADS = 2


def thumbnail(
    image: "LargeImage", longest: int = 1400, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """The whole image, small, to look at.

    Read from the lowest level that is large enough and averaged down by windows; an image without such a
    level is read through once, a few windows of memory at a time.

    Args:
        longest: the longer side, in pixels, is at most this.
        progress: called as (windows done, all).
    Returns:
        (height, width, 3) in [0, 1]. 8-bit images keep their brightness, others are stretched from their 2nd
        to their 98th percentile. One or two bands give grey from the first; of more, the first three are
        red, green and blue. NaN where there is nothing (nodata).
    """
    level, stride = _level_and_stride(image, longest)
    stretched: NDArray[np.float32]
    small = _averaged(image, level, stride, progress)
    if image.dtype == np.uint8:
        stretched = small / np.float32(255)
    else:
        stretched = np.stack([_stretched(small[..., band]) for band in range(small.shape[-1])], axis=-1)
    return np.repeat(stretched, 3, axis=-1) if stretched.shape[-1] == 1 else stretched


def _level_and_stride(image: "LargeImage", longest: int) -> tuple[int, int]:
    factor = max(image.shape) / longest
    large_enough = [i for i, scale in enumerate(image.levels) if scale <= max(factor, 1.0)]
    level = max(large_enough, key=lambda i: image.levels[i])
    return level, max(1, int(np.ceil(max(image.level_shapes[level]) / longest)))


def _averaged(
    image: "LargeImage", level: int, stride: int, progress: Callable[[int, int], None] | None
) -> NDArray[np.float32]:
    height, width = image.level_shapes[level]
    bands = 3 if image.channels >= 3 else 1
    small = np.full((-(-height // stride), -(-width // stride), bands), np.nan, dtype=np.float32)
    side = max(stride, _WINDOW // stride * stride)
    windows = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]

    def fill(window: tuple[int, int]) -> None:
        y, x = window
        size = min(side, height - y), min(side, width - x)
        pixels, valid = (part[..., :bands] for part in _read(image, level, y, x, *size))
        part = _block_mean(pixels, stride, valid)
        top, left = y // stride, x // stride
        small[top : top + part.shape[0], left : left + part.shape[1]] = part

    with ThreadPoolExecutor(_THREADS) as pool:
        for done, _ in enumerate(pool.map(fill, windows), start=1):
            if progress is not None:
                progress(done, len(windows))
    return small


def _read(
    image: "LargeImage", level: int, y: int, x: int, height: int, width: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    factor = image.levels[level]
    return image.read_usable(round(y * factor), round(x * factor), height, width, level)


def _block_mean(pixels: NDArray[Any], stride: int, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means over blocks of stride x stride pixels that leave nodata and NaN out; the last blocks may be smaller."""
    there = valid if pixels.dtype.kind != "f" else valid & np.isfinite(pixels)
    counts = _block_sum(there, stride)
    sums = _block_sum(pixels if there.all() else np.where(there, pixels, 0), stride)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan, np.float32), where=counts > 0)


def _block_sum(values: NDArray[Any], stride: int) -> NDArray[np.float32]:
    if stride == 1:
        return values.astype(np.float32)
    # Rows first: whole rows are added up at once, and what is left is small.
    tops = range(0, values.shape[0], stride)
    rows = np.stack([values[top : top + stride].sum(axis=0, dtype=np.float32) for top in tops])
    sums: NDArray[np.float32] = np.add.reduceat(rows, np.arange(0, values.shape[1], stride), axis=1)
    return sums


def _stretched(band: NDArray[np.float32]) -> NDArray[np.float32]:
    there = band[np.isfinite(band)]
    if there.size == 0:
        return band
    low, high = np.percentile(there, [2, 98])
    return np.clip((band - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
