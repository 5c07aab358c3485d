"""An image together with what is known of every place of it: cut, mirrored and turned as one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xt.data.augmentation import Augmentation
from xt.images import LargeImage
from xt.labels.box_table import BoxTable
from xt.labels.box_windows import BoxesOnImage, cut_boxes
from xt.labels.point_table import PointTable


@dataclass(frozen=True)
class Labelled:
    """An image and its mask of the same size, its points or its boxes."""

    image: LargeImage
    target: LargeImage | PointTable | BoxTable
    step: tuple[float, float] = (1.0, 1.0)
    """(y, x), how many pixels of the image's file one of its own spans, where it is whole: see `AsRead`."""

    def crop(self, y: int, x: int, height: int, width: int) -> "Labelled":
        """The part that starts at (y, x), lazily; of points those inside, of boxes what `cut_boxes` leaves."""
        image = self.image.crop(y, x, height, width)
        if isinstance(self.target, BoxTable):
            return Labelled(image, cut_boxes(self.target, y, x, height, width))
        if isinstance(self.target, PointTable):
            return Labelled(image, self.target.within(y, x, height, width).shifted(-y, -x))
        return Labelled(image, self.target.crop(y, x, height, width))

    def augmented(self, augmentation: Augmentation, generator: np.random.Generator) -> "Labelled":
        """Both with the changes of one draw; colours change in the image alone."""
        image, turned = augmentation.changed(self.image, generator)
        if isinstance(self.target, BoxTable):
            boxes: BoxesOnImage = turned(BoxesOnImage(self.target, *self.image.shape))
            return Labelled(image, boxes.boxes)
        if not isinstance(self.target, PointTable):
            return Labelled(image, turned(self.target))
        points: PointsOnImage = turned(PointsOnImage(self.target, *self.image.shape))
        return Labelled(image, points.points)

    def close(self) -> None:
        """Close the files behind both."""
        self.image.close()
        if isinstance(self.target, LargeImage):
            self.target.close()


@dataclass(frozen=True)
class PointsOnImage:
    """Points of an image of height x width pixels, which flip and turn as the image does."""

    points: PointTable
    height: int
    width: int

    def flip(self, axis: str) -> "PointsOnImage":
        y, x = self.points.y, self.points.x
        y, x = (self.height - y, x) if axis == "y" else (y, self.width - x)
        return PointsOnImage(self._moved(y, x), self.height, self.width)

    def rotate(self, quarter_turns: int) -> "PointsOnImage":
        turned = self
        for _ in range(quarter_turns % 4):
            # Counter-clockwise: what was at the right edge comes to the top.
            y, x = turned.width - turned.points.x, turned.points.y
            turned = PointsOnImage(turned._moved(y, x), turned.width, turned.height)
        return turned

    def _moved(self, y: np.ndarray, x: np.ndarray) -> PointTable:
        points = self.points
        return PointTable(y, x, points.labels, points.scores, points.attributes)


Find = Callable[[np.random.Generator], tuple[float, float] | None]
"""Draws a place (y, x) with a label, or None where there is none."""


def random_window(
    pair: Labelled, size: int, label_centred: float, find: Find, generator: np.random.Generator
) -> Labelled:
    """A square of `size` pixels of an image, as a lazy crop; along a shorter side all of it.

    Args:
        label_centred: how probably the square lies around a label, in [0, 1]: it is then somewhere in the square's
            middle half, so that a network cannot learn to look at the very centre only.
        find: where labels are.
    """
    height, width = pair.image.shape
    wanted = generator.random() < label_centred
    place = find(generator) if wanted else None
    offset = generator.uniform(-0.25, 0.25, 2) * size
    anywhere = generator.random(2)
    origin = []
    for axis, side in enumerate((height, width)):
        room = max(side - size, 0)
        if place is None:
            origin.append(int(anywhere[axis] * (room + 1)))
        else:
            origin.append(int(np.clip(place[axis] + offset[axis] - size / 2, 0, room)))
    y, x = origin
    return pair.crop(y, x, min(size, height), min(size, width))


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
