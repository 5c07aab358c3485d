"""How a segmentation's answers about regions are kept until all are there, and read again on the image's pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xt.results.enlarging import enlarged

NOTHING = 255
"""Of masks and of probabilities alike: no region was looked at here, or the image has no data."""
CERTAIN = 254
"""A probability of 1 as a pixel of a file."""
# Likewise in what is kept of coarse regions: with steps as large as those of files, classes would often be alike.
_STEPS, _UNKNOWN = 65534, 65535
# Of all classes together, enlarged at a time.
_VALUES = 1 << 22

ReadBytes = Callable[[int, int], bytes]
"""Called with the first byte and how many are wanted."""


@dataclass(frozen=True)
class KeptPixels:
    """The bytes of a region, which depend on its scale.

    At full resolution band after band: the class of each pixel, and the probabilities if they are wanted, as in files.
    What is coarser is enlarged before the class is decided (`xt.results.enlarging`), so of that all probabilities are
    kept, as numbers of 16 bits, row after row.

    Args:
        num_classes: K.
        size: S, the side of a region as it is read.
        probabilities: whether they are wanted.
    """

    num_classes: int
    size: int
    probabilities: bool = False

    @property
    def num_bands(self) -> int:
        """Of a file that holds all: the classes, then the probability of each."""
        return 1 + self.num_classes if self.probabilities else 1

    def bytes_of(self, scales: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of regions of these scales."""
        each = np.where(scales == 1, self.num_bands, 2 * self.num_classes)
        return np.asarray(each * self.size**2, dtype=np.int64)

    def of_coarse(self, probabilities: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(bytes,) of a coarse region.

        Args:
            probabilities: (K, S, S), of pixels as the region is read.
            known: (S, S): which of them lie in the image and have data.
        """
        steps = _in_steps(probabilities).astype(np.uint16)
        steps[:, ~known] = _UNKNOWN
        return np.ascontiguousarray(steps.transpose(1, 0, 2)).reshape(-1).view(np.uint8)

    def read(
        self, read: ReadBytes, first: int, scale: int, rows: slice, columns: slice, bands: range
    ) -> NDArray[np.uint8]:
        """(bands, rows, columns): some of a region's pixels on those of the image, counted from its corner.

        Args:
            read: from where regions are kept.
            first: byte of this one.
        """
        if scale == 1:
            pixels = [self._fine_rows(read, first, band, rows)[:, columns] for band in bands]
            return np.stack(pixels)
        window = np.empty((len(bands), rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        step = max(1, _VALUES // (window.shape[2] * (self.num_classes + 1)))
        for top in range(rows.start, rows.stop, step):
            some = slice(top, min(top + step, rows.stop))
            window[:, top - rows.start : some.stop - rows.start] = self._enlarged(
                read, first, scale, some, columns, bands
            )
        return window

    def _fine_rows(self, read: ReadBytes, first: int, band: int, rows: slice) -> NDArray[np.uint8]:
        size = self.size
        data = read(first + (band * size + rows.start) * size, (rows.stop - rows.start) * size)
        return np.frombuffer(data, np.uint8).reshape(-1, size)

    def _enlarged(
        self, read: ReadBytes, first: int, scale: int, rows: slice, columns: slice, bands: range
    ) -> NDArray[np.uint8]:
        # With the row above and below.
        top, bottom = max(rows.start // scale - 1, 0), min((rows.stop - 1) // scale + 2, self.size)
        row_bytes = 2 * self.num_classes * self.size
        data = read(first + top * row_bytes, (bottom - top) * row_bytes)
        steps = np.frombuffer(data, np.uint16).reshape(-1, self.num_classes, self.size).transpose(1, 0, 2)
        known = steps[0] != _UNKNOWN
        inside = slice(rows.start - top * scale, rows.stop - top * scale)
        values = enlarged(steps.astype(np.float32), known, scale, inside, columns)
        own = known[np.ix_(*(np.arange(some.start, some.stop) // scale for some in (inside, columns)))]
        pixels = np.full((len(bands), *own.shape), NOTHING, dtype=np.uint8)
        for number, band in enumerate(bands):
            found = values[band - 1] * np.float32(CERTAIN / _STEPS) if band else values.argmax(axis=0)
            pixels[number, own] = found.round()[own]
        return pixels


def probabilities_on_pixels(
    probabilities: NDArray[np.float32], known: NDArray[np.bool_], scale: int, rows: slice, columns: slice
) -> NDArray[np.float32]:
    """(K, rows, columns): those of a coarse region on some pixels of the image, as files will have them; args as of
    `enlarged` and `KeptPixels.of_coarse`."""
    return enlarged(_in_steps(probabilities), known, scale, rows, columns) / np.float32(_STEPS)


def _in_steps(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    steps: NDArray[np.float32] = (probabilities.astype(np.float32) * np.float32(_STEPS)).round()
    return steps
