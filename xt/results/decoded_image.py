"""Decoded regions as an image: bands of a `RegionStore`, read by window."""

from typing import Any

import numpy as np

from xt.images import LargeImage
from xt.regions.grid import RegionGrid
from xt.results.region_store import RegionStore

# Of masks and of probabilities alike: no region was looked at here, or the image has no data.
NOTHING = 255


class DecodedImage(LargeImage):
    """Some bands of the regions in a store, laid out as they lie in the image; `NOTHING` where none is.

    A region is `num_bands` x S x S bytes, its place is its number in the grid, so that any window is read without
    looking at the rest.

    Args:
        num_bands: that the store has for each region.
        bands: which of them, as channels.
        image: whose pixels were decoded; coordinates and resolution are taken from it.
    """

    def __init__(
        self, store: RegionStore, grid: RegionGrid, image: LargeImage, *, num_bands: int, bands: range
    ) -> None:
        super().__init__(
            f"prediction of {image.name}",
            [(grid.height, grid.width)],
            len(bands),
            np.dtype(np.uint8),
            microns_per_pixel=image.microns_per_pixel,
            crs=image.crs,
            transform=image.transform,
            control=image.control,
            nodata=NOTHING,
        )
        self.qupath_origin = image.qupath_origin
        self._store = store
        self._size = grid.region_size
        self._num_bands = num_bands
        self._bands = bands
        self._numbers = np.full((grid.rows, grid.columns), -1, dtype=np.int64)
        self._numbers[grid.cells[:, 0], grid.cells[:, 1]] = np.arange(len(grid))

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray[Any, Any]:
        # Band after band, as in the store and as the file is written.
        window = np.full((self.channels, height, width), NOTHING, dtype=np.uint8)
        size = self._size
        for row in range(y // size, -(-(y + height) // size)):
            top, bottom = max(y, row * size), min(y + height, (row + 1) * size)
            for column in range(x // size, -(-(x + width) // size)):
                number = int(self._numbers[row, column])
                if number < 0:
                    continue
                left, right = max(x, column * size), min(x + width, (column + 1) * size)
                pixels = self._rows(number, top - row * size, bottom - row * size)
                window[:, top - y : bottom - y, left - x : right - x] = pixels[
                    :, :, left - column * size : right - column * size
                ]
        return window.transpose(1, 2, 0)

    def _rows(self, number: int, top: int, bottom: int) -> np.ndarray[Any, Any]:
        """(bands, bottom - top, S): some rows of a region."""
        size, plane = self._size, self._size**2
        first = number * self._num_bands * plane
        return np.stack(
            [
                np.frombuffer(
                    self._store.read(first + band * plane + top * size, (bottom - top) * size), np.uint8
                ).reshape(bottom - top, size)
                for band in self._bands
            ]
        )
