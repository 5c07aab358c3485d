"""Images with masks, points or boxes for a training loop, whole or as random windows; items cost next to nothing."""

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.data.dataset import Reading, TableDataset
from xt.data.labelled import Labelled, MaskPlaces, PointPlaces, random_window
from xt.errors import ConfigError, DataWarning, TableError
from xt.images import LargeImage
from xt.images.polygons import PolygonImage
from xt.labels.box_table import BoxTable
from xt.labels.box_windows import BoxPlaces, with_area
from xt.labels.image_table import ImageTable
from xt.labels.point_table import PointTable
from xt.labels.targets import BoxTarget


class DenseItem(NamedTuple):
    """An image, or a window of one, with its labels, and its place in the table."""

    pair: Labelled
    place: int


class DenseBatch(NamedTuple):
    """Some images of differing sizes with their labels.

    Attributes:
        targets: a mask, a `PointTable` or a `BoxTable` for each image.
        places: in the table.
    """

    images: list[LargeImage]
    targets: list[LargeImage | PointTable | BoxTable]
    places: tuple[int, ...]

    def close(self) -> None:
        """Close the files; the next step opens its own."""
        for image, target in zip(self.images, self.targets, strict=True):
            Labelled(image, target).close()


class DenseDataset(TableDataset):
    """Images with masks, points or boxes: whole, or in training as random windows.

    Args:
        table: its targets are `Target`s.
        others: as of `TableDataset`.
    """

    def __len__(self) -> int:
        return len(self.table) * (1 if self.augmentation is None else self.augmentation.windows)

    def __getitem__(self, key: int | tuple[int, int]) -> DenseItem:
        """The image or window at an index, or at (epoch, index): as drawn in that epoch."""
        index, generator = self.drawn(key)
        augmentation = self.augmentation
        place = index if augmentation is None else index // augmentation.windows
        pair = open_labelled(self.table, place, self.reading)
        if augmentation is None:
            return DenseItem(pair, place)
        if isinstance(pair.target, BoxTable):
            pair = Labelled(pair.image, with_area(pair.target))
        if augmentation.train_size is not None:
            pair = random_window(
                pair,
                augmentation.train_size,
                augmentation.label_centred,
                lambda generator: self._label(place, pair, generator),
                generator,
            )
        return DenseItem(pair.augmented(augmentation, generator), place)

    @cached_property
    def _places(self) -> dict[int, MaskPlaces]:
        """Of masks seen so far, by place in the table."""
        return {}

    def _label(
        self, place: int, pair: Labelled, generator: np.random.Generator
    ) -> tuple[float, float] | None:
        if isinstance(pair.target, PointTable):
            return PointPlaces(pair.target)(generator)
        if isinstance(pair.target, BoxTable):
            return BoxPlaces(pair.target)(generator)
        if place not in self._places:
            self._places[place] = MaskPlaces(pair.target, len(self.table.class_names))
        return self._places[place].draw(pair.target, generator)


def open_labelled(table: ImageTable, place: int, reading: Reading) -> Labelled:
    """An image of a table with its labels, both as the model reads the image.

    Raises:
        ShapeError, TableError: the labels are not of this image.
    """
    return _opened(table, place, reading)[0]


def _opened(
    table: ImageTable, place: int, reading: Reading
) -> tuple[Labelled, LargeImage | PointTable | BoxTable]:
    """As `open_labelled`, with the labels on the pixels of the file."""
    read = reading.as_read(table.paths[place], table.microns_of(place))
    try:
        labels = table.targets[place].on(read.file)
        return Labelled(read.image, read.labels(labels), read.step), labels
    except BaseException:
        read.file.close()
        raise


def check_labelled(
    table: ImageTable,
    reading: Reading,
    progress: Callable[[int, int], None] | None = None,
    *,
    on_map: bool = False,
) -> NDArray[np.int64] | None:
    """Open every image with its labels, without reading pixels.

    Args:
        progress: called with images done and images in all.
        on_map: whether distances are going to be measured in map units.
    Returns:
        (K,) how many points or boxes of each class there are to be found; None of masks.
    Raises:
        ShapeError, TableError: the labels of an image are not of this image, or no point or polygon of the table lies
            on any.
        ConfigError: distances on the map are wanted, and an image lies on none.
    """
    given = lying = 0
    found = np.zeros(len(table.class_names), np.int64)
    masks = False
    beyond = _Beyond()
    for place in range(len(table)):
        pair, on_file = _opened(table, place, reading)
        target = table.targets[place]
        if isinstance(pair.target, BoxTable):
            single = with_area(pair.target)
            found += np.bincount(single.labels[~single.crowd], minlength=len(found))
            beyond.add(pair.target, pair.image)
        elif isinstance(pair.target, PointTable):
            found += np.bincount(pair.target.labels, minlength=len(found))
        else:
            masks = True
        if on_map and pair.image.location is None:
            pair.close()
            raise ConfigError(
                f"evaluation.distance_unit is 'map', but {pair.image.name} does not say where it lies; set it to "
                "'pixels'"
            )
        if target.given is not None:
            given, lying = given + target.given, lying + _number_of(on_file)
        pair.close()
        if progress is not None:
            progress(place + 1, len(table))
    if given and not lying:
        raise TableError(
            f"{table.source}: none of the {'polygons' if masks else 'points'} lies on its image; check coordinate "
            "systems, and the order of x and y"
        )
    beyond.say(table.source)
    return None if masks else found


class _Beyond:
    """Boxes that reach beyond their images, as they do where corners are written for sizes."""

    def __init__(self) -> None:
        self.boxes = self.outside = 0
        self.first = ""

    def add(self, boxes: BoxTable, image: LargeImage) -> None:
        height, width = image.shape
        edges = boxes.edges
        outside = (edges[:, :2] < -1).any(axis=1) | (edges[:, 2] > height + 1) | (edges[:, 3] > width + 1)
        if outside.any() and not self.first:
            y0, x0, y1, x1 = edges[np.flatnonzero(outside)[0]]
            self.first = (
                f"x={x0:g}, y={y0:g}, width={x1 - x0:g}, height={y1 - y0:g} on {image.name} of {height} x {width} "
                "(height x width)"
            )
        self.boxes, self.outside = self.boxes + len(boxes), self.outside + int(outside.sum())

    def say(self, source: str) -> None:
        if self.outside:
            warnings.warn(
                f"{source}: {self.outside} of {self.boxes} boxes reach beyond their images, such as {self.first}; a "
                "COCO box is x, y, width, height",
                DataWarning,
                stacklevel=3,
            )


def _number_of(target: LargeImage | PointTable | BoxTable) -> int:
    """How many objects of a file lie on the image."""
    if isinstance(target, LargeImage):
        return target.polygons.count if isinstance(target, PolygonImage) else 0
    return len(target)


def warn_of_crowded_images(table: ImageTable, most: int) -> None:
    """Warn where images have more objects than boxes of an image count: the others are missed whatever a model says.

    Args:
        most: boxes of an image that count.
    """
    counts = [int((~target.boxes.crowd).sum()) for target in table.targets if isinstance(target, BoxTarget)]
    crowded = [count for count in counts if count > most]
    if crowded:
        warnings.warn(
            f"{table.source}: {len(crowded)} of {len(counts)} images have more than {most} objects, up to "
            f"{max(crowded)}, of which no more than {most} can be found: raise the last of evaluation.max_detections "
            "(--max-detections)",
            stacklevel=2,
        )


def collate_dense(items: Sequence[DenseItem]) -> DenseBatch:
    """Images and labels as lists."""
    return DenseBatch(
        [item.pair.image for item in items],
        [item.pair.target for item in items],
        tuple(item.place for item in items),
    )
