"""An image as the tiles that a map in a browser asks for: powers of two over its own levels.

Zoom `deepest` has the image's own pixels, each one before it half as many a side, and zoom 0 all in one tile.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError
from xt.images import LargeImage
from xt.images.resampled import Grid, Resampled

TILE = 256
# Of pixels a side that a tile is made of: from 16 times as many on, an overview is made once for all.
_MOST_STEPS = 4
_OVERVIEW_BYTES = 64 * 2**20
_STRIP = 64
_THREADS = 2


class Pyramid:
    """Tiles of 256 x 256 pixels, safe to read from many threads.

    Attributes:
        deepest: the zoom at which a pixel of a tile is one of the image.
    """

    def __init__(self, image: LargeImage) -> None:
        self.image = image
        self.deepest = max(0, math.ceil(math.log2(max(image.shape) / TILE)))
        steps = range(self.deepest + 1)
        grids = [_grid(image, 2**step) for step in steps]
        factors = tuple(2.0**step for step in steps)
        self._zooms: LargeImage = Resampled(image, grids, "by zoom", levels=factors)
        self._coarse = self._first_coarse(grids)
        self._low: LargeImage | None = None
        self._grids = grids
        self._making = threading.Lock()

    def window(self, zoom: int, y: int, x: int) -> tuple[int, int, int, int]:
        """(y, x, height, width) of a tile in level-0 pixels; it may reach outside the image.

        Raises:
            ShapeError: there is no such tile.
        """
        side = TILE << (self.deepest - zoom) if 0 <= zoom <= self.deepest else 0
        if not side or not (0 <= y * side < self.image.shape[0] and 0 <= x * side < self.image.shape[1]):
            raise ShapeError(
                f"{self.image.name} has no tile ({y}, {x}) at zoom {zoom} of 0 to {self.deepest}"
            )
        return y * side, x * side, side, side

    def read(self, zoom: int, y: int, x: int) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """A tile's values and which of them are data: (256, 256, channels) both.

        Raises:
            ShapeError: there is no such tile.
            ImageError: the file is damaged there.
        """
        top, left, _, _ = self.window(zoom, y, x)
        return self.read_at(self.deepest - zoom, top, left, TILE, TILE)

    def read_at(
        self, step: int, y: int, x: int, height: int, width: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """A window of the image halved `step` times, that starts at (y, x) of level 0."""
        if step >= self._coarse:
            factor = 2**self._coarse
            y, x = round(y / factor), round(x / factor)
            return self._overview().read_usable(y, x, height, width, step - self._coarse)
        return self._zooms.read_usable(y, x, height, width, step)

    def whole(self, longest: int) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """All of the image at the deepest zoom where its longer side has at most this many pixels."""
        step = min(self.deepest, max(0, math.ceil(math.log2(max(self.image.shape) / longest))))
        return self.read_at(step, 0, 0, *self._grids[step].shape)

    def _first_coarse(self, grids: list[Grid]) -> int:
        """From which step on a tile would be made of too many pixels; beyond all steps where none is."""
        far = [step for step, grid in enumerate(grids) if self._steps_to(grid) > 2**_MOST_STEPS * 1.01]
        if not far:
            return len(grids)
        step = far[0]
        value_bytes = self.image.channels * (self.image.dtype.itemsize + 1)
        while step < len(grids) - 1 and math.prod(grids[step].shape) * value_bytes > _OVERVIEW_BYTES:
            step += 1
        return step

    def _steps_to(self, grid: Grid) -> float:
        """Of how many pixels a side of the nearest finer level one of the grid's is made."""
        step = max(grid.step)
        return step / max(factor for factor in self.image.levels if factor <= step * 1.01)

    def _overview(self) -> LargeImage:
        """The coarser steps, from one that is made once, by reading all of the image."""
        with self._making:
            if self._low is None:
                step = self._coarse
                height, width = self._grids[step].shape
                tops = range(0, height, _STRIP)

                def strip(top: int) -> tuple[np.ndarray, NDArray[np.bool_]]:
                    rows = min(_STRIP, height - top)
                    return self._zooms.read_usable(top << step, 0, rows, width, step)

                with ThreadPoolExecutor(_THREADS) as pool:
                    strips = list(pool.map(strip, tops))
                low = _Held(self.image, *(np.concatenate(parts) for parts in zip(*strips, strict=True)))
                further = range(self.deepest + 1 - step)
                grids = [_grid(low, 2**more) for more in further]
                self._low = Resampled(low, grids, "by zoom", levels=tuple(2.0**more for more in further))
            return self._low


class _Held(LargeImage):
    """A small copy of an image in memory, with what is missing."""

    def __init__(self, image: LargeImage, pixels: np.ndarray, valid: NDArray[np.bool_]) -> None:
        height, width, channels = pixels.shape
        super().__init__(
            image.name, [(height, width)], channels, pixels.dtype, nodata=image.nodata_values, fill=image.fill
        )
        self._pixels, self._valid = pixels, valid

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._pixels[y : y + height, x : x + width].copy()

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        return self._read(y, x, height, width, level), self._valid[y : y + height, x : x + width].copy()


def _grid(image: LargeImage, factor: int) -> Grid:
    """A step's pixels: of the coarsest level of the file that is not coarser and within a pixel of a power of two, as
    sizes are rounded, each the mean of whole blocks."""
    height, width = image.shape
    for more in range(factor.bit_length()):
        own, block = factor >> more, 1 << more
        for low in image.level_shapes:
            if abs(low[0] - height / own) < 1 and abs(low[1] - width / own) < 1:
                shape = -(-low[0] // block), -(-low[1] // block)
                return Grid(shape, (height / low[0] * block, width / low[1] * block))
    raise AssertionError("level 0 is the last that is tried")
