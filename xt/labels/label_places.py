"""Where the labels of an image are, drawn by chance."""

import numpy as np

from xt.images import LargeImage
from xt.labels.point_table import PointTable


class PointPlaces:
    """Draws points, each as likely."""

    def __init__(self, points: PointTable) -> None:
        self.points = points

    def __call__(self, generator: np.random.Generator) -> tuple[float, float] | None:
        if not len(self.points):
            return None
        number = int(generator.integers(len(self.points)))
        return float(self.points.y[number]), float(self.points.x[number])


class MaskPlaces:
    """Draws pixels of a mask: of one of the classes but the most frequent one, each as likely, then any pixel of it.

    The mask is gone through once, block by block; of it only how many pixels of each class lie in each cell of `CELL`
    pixels is kept. A draw reads one cell.

    Args:
        num_classes: K; other values are no classes.
    """

    CELL = 128
    _CELLS_AT_ONCE = 8

    def __init__(self, mask: LargeImage, num_classes: int) -> None:
        self.num_classes = num_classes
        self.rows, self.columns = (-(-side // self.CELL) for side in mask.shape)
        self.counts = np.zeros((num_classes, self.rows, self.columns), np.int32)
        step = self._CELLS_AT_ONCE
        for row in range(0, self.rows, step):
            for column in range(0, self.columns, step):
                self._count(mask, row, column)
        totals = self.counts.sum(axis=(1, 2), dtype=np.int64)
        self.totals = totals
        self.wanted = [int(label) for label in np.flatnonzero(totals) if label != int(totals.argmax())]

    def draw(self, mask: LargeImage, generator: np.random.Generator) -> tuple[float, float] | None:
        """(y, x) of a pixel's centre; None for a mask of one class."""
        if not self.wanted:
            return None
        label = self.wanted[int(generator.integers(len(self.wanted)))]
        # The number of the pixel among those of its class, cell after cell.
        number = int(generator.integers(self.totals[label]))
        until = self.counts[label].ravel().cumsum(dtype=np.int64)
        cell = int(np.searchsorted(until, number, side="right"))
        inside = number - (int(until[cell - 1]) if cell else 0)
        y, x = (place * self.CELL for place in divmod(cell, self.columns))
        classes = self._classes(mask, y, x, self.CELL)
        row, column = np.argwhere(classes == label)[inside]
        return y + float(row) + 0.5, x + float(column) + 0.5

    def _count(self, mask: LargeImage, row: int, column: int) -> None:
        cell, step = self.CELL, self._CELLS_AT_ONCE
        classes = self._classes(mask, row * cell, column * cell, cell * step)
        rows, columns = min(step, self.rows - row), min(step, self.columns - column)
        blocks = classes.reshape(step, cell, step, cell).swapaxes(1, 2)[:rows, :columns]
        for label in range(self.num_classes):
            found = (blocks == label).sum(axis=(2, 3))
            self.counts[label, row : row + rows, column : column + columns] = found

    def _classes(self, mask: LargeImage, y: int, x: int, size: int) -> np.ndarray:
        """(size, size) class numbers, num_classes where nothing is known."""
        pixels, known = mask.read_valid(y, x, size, size)
        classes: np.ndarray = np.where(known, pixels, self.num_classes)[..., 0]
        return classes
