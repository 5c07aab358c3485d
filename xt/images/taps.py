"""Which pixels of an image make up each pixel of another grid, and with which weights: one axis at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9
_BLOCKS = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Taps:
    """Which pixels along one axis make up each pixel of a window, and with which weights."""

    first: int
    """The first of them all."""
    span: int
    """From the first to the last."""
    index: NDArray[np.intp]
    """(K, n), counted from `first`."""
    weight: NDArray[np.float64]
    """(K, n), adding up to 1 over K."""

    def last(self) -> Taps:
        """Of the last pixel alone."""
        index = self.index[:, -1:]
        low = int(index.min())
        return Taps(self.first + low, int(index.max()) + 1 - low, index - low, self.weight[:, -1:])

    def along(self, values: np.ndarray, axis: int) -> np.ndarray:
        """(span, ...) to (n, ...) along the axis."""
        shape = [1] * values.ndim
        shape[axis] = -1
        total: np.ndarray | None = None
        # Tap by tap, always in the same order: a pixel comes out the same in every window, to the last bit.
        for index, weight in zip(self.index, self.weight.astype(values.dtype), strict=True):
            part = values.take(index, axis) * weight.reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        return total


def taps(start: int, count: int, step: float, size: int, nearest: bool) -> Taps:
    """For pixels `start` to `start + count` that span `step` of the `size` pixels they are made of."""
    place = np.arange(start, start + count, dtype=np.float64)
    if nearest:
        index = np.floor((place + 0.5) * step + _ROUNDING)[np.newaxis]
        weight = np.ones_like(index)
    elif step > 1:
        begin, end = place * step, (place + 1) * step
        first = np.floor(begin + _ROUNDING)
        index = first + np.arange(int(np.ceil(step)) + 1)[:, np.newaxis]
        weight = np.clip(np.minimum(end, index + 1) - np.maximum(begin, index), 0, None)
        weight[weight < _ROUNDING] = 0
        # The last pixel may overhang by up to half of it.
        weight[index >= size] = 0
        index = np.where(weight > 0, index, np.minimum(first, size - 1))
    else:
        centre = (place + 0.5) * step - 0.5
        first = np.floor(centre + _ROUNDING)
        share = np.clip(centre - first, 0, 1)
        share[share < _ROUNDING] = 0
        index = np.stack([first, np.where(share > 0, first + 1, first)])
        weight = np.stack([1 - share, share])
    index = np.clip(index, 0, size - 1).astype(np.intp)
    weight /= weight.sum(axis=0)
    low = int(index.min())
    return Taps(low, int(index.max()) + 1 - low, index - low, weight)


def are_blocks(step: tuple[float, float], pixels: np.ndarray) -> bool:
    """Whether pixels are means of blocks of powers of two a side, of whose whole numbers the sums are as exact as the
    weighted means, and made many times as fast."""
    return pixels.dtype in (np.uint8, np.uint16) and all(side in _BLOCKS for side in step)


def block_mean(pixels: np.ndarray, down: int, across: int) -> NDArray[np.float32]:
    """(n * down, m * across, C) to (n, m, C)."""
    # Rows first: whole rows are added up at once, and what is left is small.
    rows = _sum_of_rows(pixels, down)
    sums = rows[:, ::across].astype(np.uint32)
    for column in range(1, across):
        sums += rows[:, column::across]
    return sums.astype(np.float32) / np.float32(down * across)


def block_mean_of_rows(pixels: np.ndarray, down: int) -> NDArray[np.float32]:
    """(n * down, m, C) to (n, m, C)."""
    return _sum_of_rows(pixels, down).astype(np.float32) / np.float32(down)


def _sum_of_rows(pixels: np.ndarray, down: int) -> NDArray[np.unsignedinteger]:
    rows: NDArray[np.unsignedinteger]
    rows = pixels[::down].astype(np.uint32 if pixels.dtype == np.uint16 else np.uint16)
    for row in range(1, down):
        rows += pixels[row::down]
    return rows
