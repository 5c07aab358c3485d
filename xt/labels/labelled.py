"""An image together with what is known of every place of it: cut, mirrored and turned as one.

One interface, and a class for each kind of label; a `Target` says which it is.
"""

from abc import abstractmethod
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.labels.box_table import BoxTable
from xt.labels.box_windows import BoxesOnImage, BoxPlaces, cut_boxes, with_area
from xt.labels.label_places import MaskPlaces, PointPlaces
from xt.labels.point_table import PointTable

Place = tuple[float, float]


class Changes(Protocol):
    """What `xt.data.augmentation.Augmentation` does to an image."""

    def changed(
        self, image: LargeImage, generator: np.random.Generator
    ) -> tuple[LargeImage, Callable[[Any], Any]]: ...


class Outside(NamedTuple):
    """Of an image's objects those that reach beyond it, and where the first of them is, in words."""

    number: int
    first: str = ""


@dataclass(frozen=True)
class Labelled:
    """An image and what is known of it."""

    image: LargeImage
    target: Any
    step: tuple[float, float] = (1.0, 1.0)
    """(y, x), how many pixels of the image's file one of its own spans, where it is whole: see `AsRead`."""

    @abstractmethod
    def crop(self, y: int, x: int, height: int, width: int) -> "Labelled":
        """The part that starts at (y, x), lazily."""

    @abstractmethod
    def augmented(self, augmentation: Changes, generator: np.random.Generator) -> "Labelled":
        """Both with the changes of one draw; colours change in the image alone."""

    @abstractmethod
    def draw_label(
        self,
        generator: np.random.Generator,
        num_classes: int,
        known: MutableMapping[int, MaskPlaces],
        place: int,
    ) -> Place | None:
        """A place (y, x) with a label, or None where there is none.

        Args:
            known: what took long to find out of images, by `place`, to be used again.
            place: of the image in its table.
        """

    def learnable(self) -> "Labelled":
        """Without what nothing can be learned from."""
        return self

    def counts(self, num_classes: int) -> NDArray[np.int64] | None:
        """(K,) how many objects of each class are to be found; None where there are no objects."""
        return None

    @property
    def num_objects(self) -> int:
        """How many objects there are, those included that are not to be found."""
        return 0

    def outside(self) -> Outside:
        return Outside(0)

    def close(self) -> None:
        """Close the files behind both."""
        self.image.close()


@dataclass(frozen=True)
class ImageWithMask(Labelled):
    """An image and its mask of the same size."""

    target: LargeImage

    def crop(self, y: int, x: int, height: int, width: int) -> "ImageWithMask":
        image = self.image.crop(y, x, height, width)
        return ImageWithMask(image, self.target.crop(y, x, height, width))

    def augmented(self, augmentation: Changes, generator: np.random.Generator) -> "ImageWithMask":
        image, turned = augmentation.changed(self.image, generator)
        return ImageWithMask(image, turned(self.target))

    def draw_label(
        self,
        generator: np.random.Generator,
        num_classes: int,
        known: MutableMapping[int, MaskPlaces],
        place: int,
    ) -> Place | None:
        if place not in known:
            known[place] = MaskPlaces(self.target, num_classes)
        return known[place].draw(self.target, generator)

    def close(self) -> None:
        super().close()
        self.target.close()


@dataclass(frozen=True)
class ImageWithPoints(Labelled):
    """An image and its points; of a part those inside."""

    target: PointTable

    def crop(self, y: int, x: int, height: int, width: int) -> "ImageWithPoints":
        points = self.target.within(y, x, height, width).shifted(-y, -x)
        return ImageWithPoints(self.image.crop(y, x, height, width), points)

    def augmented(self, augmentation: Changes, generator: np.random.Generator) -> "ImageWithPoints":
        image, turned = augmentation.changed(self.image, generator)
        points: PointsOnImage = turned(PointsOnImage(self.target, *self.image.shape))
        return ImageWithPoints(image, points.points)

    def draw_label(
        self,
        generator: np.random.Generator,
        num_classes: int,
        known: MutableMapping[int, MaskPlaces],
        place: int,
    ) -> Place | None:
        return PointPlaces(self.target)(generator)

    def counts(self, num_classes: int) -> NDArray[np.int64]:
        return np.bincount(self.target.labels, minlength=num_classes)

    @property
    def num_objects(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class ImageWithBoxes(Labelled):
    """An image and its boxes; of a part what `cut_boxes` leaves."""

    target: BoxTable

    def crop(self, y: int, x: int, height: int, width: int) -> "ImageWithBoxes":
        return ImageWithBoxes(
            self.image.crop(y, x, height, width), cut_boxes(self.target, y, x, height, width)
        )

    def augmented(self, augmentation: Changes, generator: np.random.Generator) -> "ImageWithBoxes":
        image, turned = augmentation.changed(self.image, generator)
        boxes: BoxesOnImage = turned(BoxesOnImage(self.target, *self.image.shape))
        return ImageWithBoxes(image, boxes.boxes)

    def draw_label(
        self,
        generator: np.random.Generator,
        num_classes: int,
        known: MutableMapping[int, MaskPlaces],
        place: int,
    ) -> Place | None:
        return BoxPlaces(self.target)(generator)

    def learnable(self) -> "ImageWithBoxes":
        return ImageWithBoxes(self.image, with_area(self.target))

    def counts(self, num_classes: int) -> NDArray[np.int64]:
        single = with_area(self.target)
        return np.bincount(single.labels[~single.crowd], minlength=num_classes)

    @property
    def num_objects(self) -> int:
        return len(self.target)

    def outside(self) -> Outside:
        height, width = self.image.shape
        edges = self.target.edges
        beyond = (edges[:, :2] < -1).any(axis=1) | (edges[:, 2] > height + 1) | (edges[:, 3] > width + 1)
        if not beyond.any():
            return Outside(0)
        y0, x0, y1, x1 = edges[np.flatnonzero(beyond)[0]]
        return Outside(
            int(beyond.sum()),
            f"x={x0:g}, y={y0:g}, width={x1 - x0:g}, height={y1 - y0:g} on {self.image.name} of {height} x {width} "
            "(height x width)",
        )


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
