"""Decoded regions as an image: bands of a `RegionStore`, read by window."""

from typing import Any

import numpy as np

from xt.images import LargeImage
from xt.regions.pyramid_grid import each_scale
from xt.regions.scattered import PixelRegions
from xt.results.region_store import RegionStore

# Of masks and of probabilities alike: no region was looked at here, or the image has no data.
NOTHING = 255


class DecodedImage(LargeImage):
    """Some bands of the regions in a store, laid out as they lie in the image; `NOTHING` where none is.

    A region is `num_bands` x S x S bytes, whatever its scale; its place is its number in the grid, so that any window
    is read without looking at the rest. Of a region of scale s each of these pixels is s x s of the image, all alike:
    class numbers have nothing in between, and probabilities stay those of the mask.

    Args:
        grid: of regions that lie beside each other.
        num_bands: that the store has for each region.
        bands: which of them, as channels.
        image: whose pixels were decoded; coordinates and resolution are taken from it.
    """

    def __init__(
        self, store: RegionStore, grid: PixelRegions, image: LargeImage, *, num_bands: int, bands: range
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
        self._numbers, self._origins, self._scales = grid.covering(), grid.origins, each_scale(grid)

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray[Any, Any]:
        # Band after band, as in the store and as the file is written.
        window = np.full((self.channels, height, width), NOTHING, dtype=np.uint8)
        size = self._size
        cells = np.s_[y // size : -(-(y + height) // size), x // size : -(-(x + width) // size)]
        for number in np.unique(self._numbers[cells]):
            if number < 0:
                continue
            scale, (top, left) = int(self._scales[number]), self._origins[number].tolist()
            rows = slice(max(y, top), min(y + height, top + scale * size))
            columns = slice(max(x, left), min(x + width, left + scale * size))
            first = (rows.start - top) // scale
            pixels = self._rows(int(number), first, -(-(rows.stop - top) // scale))
            if scale == 1:
                part = pixels[:, :, columns.start - left : columns.stop - left]
            else:
                row = (np.arange(rows.start, rows.stop) - top) // scale - first
                part = pixels[:, row[:, None], (np.arange(columns.start, columns.stop) - left) // scale]
            window[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = part
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
