"""Decoded regions as an image: bands of a `RegionStore`, read by window."""

from typing import Any

import numpy as np

from xt.images import LargeImage
from xt.regions.pyramid_grid import each_scale
from xt.regions.scattered import PixelRegions
from xt.results.kept_pixels import NOTHING, KeptPixels
from xt.results.region_store import RegionStore


class DecodedImage(LargeImage):
    """Some bands of the regions in a store, laid out as they lie in the image; `NOTHING` where none is.

    The regions lie in the store one after the other, as the grid has them, so that any window is read without looking
    at the rest.

    Args:
        grid: of regions that lie beside each other.
        kept: what the store has of each region.
        bands: which of `kept.num_bands`, as channels.
        image: whose pixels were decoded; coordinates and resolution are taken from it.
    """

    def __init__(
        self, store: RegionStore, grid: PixelRegions, image: LargeImage, *, kept: KeptPixels, bands: range
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
        self._kept = kept
        self._bands = bands
        self._numbers, self._origins, self._scales = grid.covering(), grid.origins, each_scale(grid)
        self._first = np.cumsum(kept.bytes_of(self._scales)) - kept.bytes_of(self._scales)

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
            part = self._kept.read(
                self._store.read,
                int(self._first[number]),
                scale,
                slice(rows.start - top, rows.stop - top),
                slice(columns.start - left, columns.stop - left),
                self._bands,
            )
            window[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = part
        return window.transpose(1, 2, 0)
