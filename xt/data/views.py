"""What a model is given of an image: all of it, or what the usual ways out would leave of it.

`whole` is xT. `downsample` and `crop` are the baselines of `xt compare`: they make one region of an image.
"""

import threading
from collections.abc import Callable, Iterator

import numpy as np

from xt.data.augmentation import random_crop
from xt.errors import ShapeError
from xt.images import LargeImage

View = Callable[[LargeImage], LargeImage]
_BLOCK = 1024


class Downsampled(LargeImage):
    """The whole image, its longer side averaged down to `size` pixels; its shape's proportions stay.

    Every output pixel is the mean of the area it covers. The image is gone through once, at the first read,
    in blocks of 1,024 pixels, from the smallest pyramid level that is still at least as fine; the result is
    kept. nodata (and NaN) has no part in a mean.

    Args:
        size: pixels of the longer side; an image that is smaller already stays as it is.
    """

    def __init__(self, source: LargeImage, size: int) -> None:
        if size < 1:
            raise ShapeError(f"an image can be averaged down to 1 pixel or more, not {size}")
        longer = max(source.shape)
        factor = max(longer / size, 1.0)
        height, width = (max(round(side / factor), 1) for side in source.shape)
        super().__init__(
            source.name,
            [(height, width)],
            source.channels,
            source.dtype,
            nodata=source.nodata,
            fill=source.fill,
        )
        self.source = source
        self.source_level = max(level for level, step in enumerate(source.levels) if step <= factor + 1e-6)
        self._lock = threading.Lock()
        self._pixels: np.ndarray | None = None

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._average()
        return self._pixels[y : y + height, x : x + width].copy()

    def _average(self) -> np.ndarray:
        height, width = self.shape
        level_height, level_width = self.source.level_shapes[self.source_level]
        total = np.zeros((height, width, self.channels), np.float64)
        weight = np.zeros((height, width, self.channels), np.float64)
        for y, rows in _blocks(level_height):
            first_row, last_row, by_rows = _overlaps(y, rows, level_height, height)
            for x, columns in _blocks(level_width):
                first_column, last_column, by_columns = _overlaps(x, columns, level_width, width)
                pixels = self.source._read_level(y, x, rows, columns, self.source_level).astype(np.float32)
                valid = pixels == pixels
                if self.nodata is not None:
                    valid &= pixels != self.nodata
                part = np.s_[first_row:last_row, first_column:last_column]
                total[part] += _apply(by_rows, np.where(valid, pixels, 0), by_columns)
                weight[part] += _apply(by_rows, valid.astype(np.float32), by_columns)
        empty = weight <= 1e-9
        mean: np.ndarray = total / np.where(empty, 1, weight)
        if self.dtype.kind in "ui":
            mean = np.rint(mean)
        elif self.dtype.kind == "b":
            mean = mean >= 0.5
        filled = np.nan if self.dtype.kind == "f" and self.nodata is None else self.fill
        return np.where(empty, filled, mean).astype(self.dtype)

    def close(self) -> None:
        self.source.close()
        super().close()


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


def _overlaps(start: int, count: int, source: int, target: int) -> tuple[int, int, np.ndarray]:
    """Which target pixels [first, last) the source pixels [start, start + count) touch, and by how much.

    The weights are (last - first, count): the length that target pixel i and source pixel j share, in source
    pixels.
    """
    step = source / target
    first = int(start / step)
    last = min(int(np.ceil((start + count) / step)), target)
    edges_low = np.arange(first, last)[:, None] * step
    places = np.arange(start, start + count)[None]
    shared = np.minimum(edges_low + step, places + 1) - np.maximum(edges_low, places)
    return first, last, np.clip(shared, 0, None).astype(np.float32)


def _apply(by_rows: np.ndarray, pixels: np.ndarray, by_columns: np.ndarray) -> np.ndarray:
    """(rows, height) x (height, width, channels) x (columns, width) -> (rows, columns, channels)."""
    lower = np.tensordot(by_rows, pixels, axes=(1, 0))
    return np.tensordot(lower, by_columns, axes=(1, 1)).transpose(0, 2, 1)
