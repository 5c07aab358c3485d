"""Images with masks, points or boxes for a training loop, whole or as random windows; items cost next to nothing."""

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from xt.data.dataset import Reading, TableDataset
from xt.errors import ConfigError, DataWarning, TableError
from xt.images import LargeImage
from xt.labels.image_table import ImageTable
from xt.labels.label_places import MaskPlaces
from xt.labels.labelled import Labelled, random_window


class DenseItem(NamedTuple):
    """An image, or a window of one, with its labels, and its place in the table."""

    pair: Labelled
    place: int


class DenseBatch(NamedTuple):
    """Some images of differing sizes with their labels.

    Attributes:
        pairs: each with its labels.
        places: in the table.
    """

    pairs: list[Labelled]
    places: tuple[int, ...]

    @property
    def images(self) -> list[LargeImage]:
        return [pair.image for pair in self.pairs]

    @property
    def targets(self) -> list[Any]:
        """A mask, a `PointTable` or a `BoxTable` for each image."""
        return [pair.target for pair in self.pairs]

    def to(self, device: torch.device) -> "DenseBatch":
        """Itself: images and masks stay where they are, the model reads their regions to the device."""
        return self

    def close(self) -> None:
        """Close the files; the next step opens its own."""
        for pair in self.pairs:
            pair.close()


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
        pair = pair.learnable()
        if augmentation.train_size is not None:
            pair = random_window(
                pair,
                augmentation.train_size,
                augmentation.label_centred,
                lambda generator: pair.draw_label(
                    generator, len(self.table.class_names), self._places, place
                ),
                generator,
            )
        return DenseItem(pair.augmented(augmentation, generator), place)

    @cached_property
    def _places(self) -> dict[int, MaskPlaces]:
        """Of masks seen so far, by place in the table."""
        return {}

    @staticmethod
    def collate(items: Sequence[DenseItem]) -> DenseBatch:
        """Images and labels as lists."""
        return DenseBatch([item.pair for item in items], tuple(item.place for item in items))


def open_labelled(table: ImageTable, place: int, reading: Reading) -> Labelled:
    """An image of a table with its labels, both as the model reads the image.

    Raises:
        ShapeError, TableError: the labels are not of this image.
    """
    return _opened(table, place, reading)[0]


def _opened(table: ImageTable, place: int, reading: Reading) -> tuple[Labelled, Any]:
    """As `open_labelled`, with the labels on the pixels of the file."""
    read = reading.as_read(table.paths[place], table.microns_of(place))
    try:
        target = table.targets[place]
        labels = target.on(read.file)
        return target.beside(read.image, read.labels(labels), read.step), labels
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
    found: NDArray[np.int64] | None = None
    beyond = _Beyond()
    for place in range(len(table)):
        pair, on_file = _opened(table, place, reading)
        target = table.targets[place]
        counts = pair.counts(len(table.class_names))
        if counts is not None:
            found = counts if found is None else found + counts
        beyond.add(pair)
        if on_map and pair.image.location is None:
            pair.close()
            raise ConfigError(
                f"evaluation.distance_unit is 'map', but {pair.image.name} does not say where it lies; set it to "
                "'pixels'"
            )
        if target.given is not None:
            given, lying = given + target.given, lying + target.lying(on_file)
        pair.close()
        if progress is not None:
            progress(place + 1, len(table))
    if given and not lying:
        raise TableError(
            f"{table.source}: none of the {table.targets[0].objects} lies on its image; check coordinate "
            "systems, and the order of x and y"
        )
    beyond.say(table.source)
    return found


class _Beyond:
    """Objects that reach beyond their images, as boxes do where corners are written for sizes."""

    def __init__(self) -> None:
        self.all = self.outside = 0
        self.first = ""

    def add(self, pair: Labelled) -> None:
        outside = pair.outside()
        self.first = self.first or outside.first
        self.all, self.outside = self.all + pair.num_objects, self.outside + outside.number

    def say(self, source: str) -> None:
        if self.outside:
            warnings.warn(
                f"{source}: {self.outside} of {self.all} boxes reach beyond their images, such as {self.first}; a "
                "COCO box is x, y, width, height",
                DataWarning,
                stacklevel=3,
            )


def warn_of_crowded_images(table: ImageTable, most: int) -> None:
    """Warn where images have more objects than boxes of an image count: the others are missed whatever a model says.

    Args:
        most: boxes of an image that count.
    """
    counts = [target.known_objects for target in table.targets if target.known_objects is not None]
    crowded = [count for count in counts if count > most]
    if crowded:
        warnings.warn(
            f"{table.source}: {len(crowded)} of {len(counts)} images have more than {most} objects, up to "
            f"{max(crowded)}, of which no more than {most} can be found: raise the last of evaluation.max_detections "
            "(--max-detections)",
            stacklevel=2,
        )
