"""What a model is given of an image: all of it, or what the usual ways out would leave of it.

`whole` is xT. `downsample` and `crop` are the baselines of `xt compare`: they make one region of an image.
"""

import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xt.data.augmentation import random_crop
from xt.errors import ShapeError
from xt.images import LargeImage
from xt.images.views import View

_BLOCK = 1024


class Downsampled(View):
    """The whole image, its longer side averaged down to `size` pixels; its shape's proportions stay.

    Every output pixel is the mean of the area it covers. The image is gone through once, at the first read,
    in blocks of 1,024 pixels, from the smallest pyramid level that is still at least as fine; the result is
    kept. nodata (and NaN) has no part in a mean. It says nothing of its place or resolution: its pixels are no image's.

    Args:
        size: pixels of the longer side; an image that is smaller already stays as it is.
    """

    def __init__(self, image: LargeImage, size: int) -> None:
        if size < 1:
            raise ShapeError(f"an image can be averaged down to 1 pixel or more, not {size}")
        longer = max(image.shape)
        factor = max(longer / size, 1.0)
        height, width = (max(round(side / factor), 1) for side in image.shape)
        super().__init__(image, "", [(height, width)], levels=(1.0,))
        self.crs = self.transform = self.control = None
        self.source_level = max(level for level, step in enumerate(image.levels) if step <= factor + 1e-6)
        self._lock = threading.Lock()
        self._averaged: tuple[np.ndarray, NDArray[np.bool_]] | None = None

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._read_valid(y, x, height, width, level)[0]

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        with self._lock:
            if self._averaged is None:
                self._averaged = self._average()
        pixels, valid = (part[y : y + height, x : x + width].copy() for part in self._averaged)
        return pixels, valid

    def _average(self) -> tuple[np.ndarray, NDArray[np.bool_]]:
        height, width = self.shape
        level_height, level_width = self.image.level_shapes[self.source_level]
        total = np.zeros((height, width, self.channels), np.float64)
        weight = np.zeros((height, width, self.channels), np.float64)
        for y, rows in _blocks(level_height):
            by_rows = _Overlap(y, rows, level_height / height, height)
            for x, columns in _blocks(level_width):
                by_columns = _Overlap(x, columns, level_width / width, width)
                read, valid = self.image._read_level_valid(y, x, rows, columns, self.source_level)
                pixels = read.astype(np.float32)
                valid = self.image._usable(read, valid) & (pixels == pixels)
                part = np.s_[by_rows.first : by_rows.last, by_columns.first : by_columns.last]
                if valid.all():
                    total[part] += by_columns.sums(by_rows.sums(pixels, axis=0), axis=1)
                    weight[part] += np.outer(by_rows.lengths, by_columns.lengths)[..., None]
                else:
                    total[part] += by_columns.sums(by_rows.sums(np.where(valid, pixels, 0), axis=0), axis=1)
                    weight[part] += by_columns.sums(by_rows.sums(valid, axis=0), axis=1)
        empty = weight <= 1e-9
        mean: np.ndarray = total / np.where(empty, 1, weight)
        if self.dtype.kind in "ui":
            mean = np.rint(mean)
        elif self.dtype.kind == "b":
            mean = mean >= 0.5
        filled = np.nan if self.dtype.kind == "f" and self.nodata is None else self.fill
        return np.where(empty, filled, mean).astype(self.dtype), ~(empty & self.has_nodata)


def centre_crops(image: LargeImage, size: int, per_side: int) -> list[LargeImage]:
    """`per_side` x `per_side` squares of `size` pixels, evenly spread over the image; 1 is the centre."""
    height, width = image.shape
    ys, xs = _evenly(height - size, per_side), _evenly(width - size, per_side)
    return [image.crop(y, x, min(size, height), min(size, width)) for y in ys for x in xs]


def training_view(kind: str, image: LargeImage, size: int, generator: np.random.Generator) -> LargeImage:
    """What a training step is given of the image; `size` is the region's."""
    if kind == "downsample":
        return Downsampled(image, size)
    return random_crop(image, size, generator) if kind == "crop" else image


def evaluation_views(kind: str, image: LargeImage, size: int, crops: int = 1) -> list[LargeImage]:
    """What an evaluation is given of the image; the probabilities of several views are averaged."""
    if kind == "downsample":
        return [Downsampled(image, size)]
    return centre_crops(image, size, crops) if kind == "crop" else [image]


def _evenly(room: int, count: int) -> list[int]:
    # Room is what is left beside one crop. Several crops go from edge to edge.
    if room <= 0:
        return [0]
    if count == 1:
        return [room // 2]
    return sorted({round(place * room / (count - 1)) for place in range(count)})


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, _BLOCK):
        yield start, min(_BLOCK, length - start)


class _Overlap:
    """Which target pixels [first, last) the source pixels [start, start + count) touch, along one axis.

    Args:
        step: source pixels in a target pixel.
        target: how many target pixels there are.
    """

    def __init__(self, start: int, count: int, step: float, target: int) -> None:
        self.first = int(start / step)
        self.last = min(math.ceil((start + count) / step), target)
        edges = np.clip(np.arange(self.first, self.last + 1) * step - start, 0, count)
        self._whole = np.minimum(edges.astype(int), count - 1)
        self._rest = edges - self._whole
        self.lengths = np.diff(edges)

    def sums(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The sum of the source over each target pixel, the border pixels by the share that lies inside."""
        values = np.moveaxis(values, axis, 0)
        below = np.cumsum(values, axis=0, dtype=np.float64)[self._whole] - values[self._whole]
        rest = self._rest.reshape(-1, *[1] * (values.ndim - 1))
        return np.moveaxis(np.diff(below + rest * values[self._whole], axis=0), 0, axis)
