"""Masks and boxes from the polygons of a file."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from xt.errors import ConfigError
from xt.images import LargeImage
from xt.images.polygons import UNKNOWN, PolygonImage, Polygons
from xt.labels.box_table import BoxTable
from xt.labels.box_windows import cut_boxes
from xt.labels.formats.polygon_files import PolygonFile, PolygonFiles, class_numbers
from xt.labels.formats.vector_files import warn_of_classless
from xt.labels.targets import Boxes, Mask

IGNORED = "ignored"
"""Where no polygon lies nothing is known."""
ORDERS = ("area", "file")


class PolygonTarget(Mask):
    """A mask that a file's polygons draw.

    Nothing is known inside of polygons without a class.

    Args:
        files: that reads the file.
        class_names: in the order of the class numbers.
        unlabelled: the class of pixels that no polygon covers; `IGNORED`: nothing is known about them.
        order: "area": smaller polygons lie on top of larger ones; "file": later ones on top of earlier ones.
    Raises:
        ConfigError: there is no such class or order, or there are too many classes.
    """

    def __init__(
        self,
        path: Path,
        files: PolygonFiles,
        class_names: Sequence[str],
        *,
        layer: str | None = None,
        unlabelled: str = IGNORED,
        order: str = "area",
    ) -> None:
        self.path: Path = path
        self.files = files
        self.class_names = tuple(class_names)
        self.layer = layer
        self.unlabelled = unlabelled
        self.order = order
        if unlabelled != IGNORED and unlabelled not in class_names:
            raise ConfigError(
                f"labels.unlabelled must be one of the classes ({', '.join(class_names)}) or {IGNORED!r}, got "
                f"{unlabelled!r} for {path}"
            )
        if order not in ORDERS:
            raise ConfigError(f"labels.polygon_order must be one of {', '.join(ORDERS)}, got {order!r}")
        if len(class_names) > UNKNOWN:
            raise ConfigError(f"a mask has {UNKNOWN} classes at most, got {len(class_names)} for {path}")

    @property
    def given(self) -> int:
        return len(self._file().polygons)

    def lying(self, labels: PolygonImage) -> int:
        return labels.polygons.count

    def on(self, image: LargeImage) -> PolygonImage:
        key = ("mask", self.path, self.layer, self.class_names, self.unlabelled, self.order, _place(image))
        polygons = self.files.kept(key, lambda: self._drawn(image), lambda drawn: drawn.corners)
        number = UNKNOWN if self.unlabelled == IGNORED else self.class_names.index(self.unlabelled)
        return PolygonImage(str(self.path), polygons, image, number)

    def _file(self) -> PolygonFile:
        return self.files.read(self.path, self.layer)

    def _drawn(self, image: LargeImage) -> Polygons:
        import shapely

        file = self._file()
        only = tuple(name for name in self.class_names if name != self.unlabelled)
        numbers = class_numbers(file, self.class_names, only)
        warn_of_classless(file.source, file.classes, file.numbers, "nothing is known where they lie")
        polygons, rows = file.on(image)
        order = -shapely.area(polygons) if self.order == "area" else np.arange(len(rows))
        values = np.where(numbers < 0, UNKNOWN, numbers)[rows]
        return Polygons(polygons, values, order)


class PolygonBoxes(Boxes):
    """Upright boxes around a file's polygons, cut at the image's borders as by a window's, see `cut_boxes`.

    Args:
        files: that reads the file.
        class_names: in the order of the model's outputs.
        image_id: the image's number in files of results.
    """

    def __init__(
        self,
        path: Path,
        files: PolygonFiles,
        class_names: Sequence[str],
        image_id: int,
        *,
        layer: str | None = None,
    ) -> None:
        self.path: Path = path
        self.files = files
        self.class_names = tuple(class_names)
        self.image_id = image_id
        self.category_ids = tuple(range(1, len(class_names) + 1))
        self.layer = layer

    @property
    def given(self) -> int:
        return len(self.files.read(self.path, self.layer).polygons)

    def on(self, image: LargeImage) -> BoxTable:
        key = ("boxes", self.path, self.layer, self.class_names, _place(image))
        return self.files.kept(key, lambda: self._around(image), lambda boxes: 4 * len(boxes))

    def _around(self, image: LargeImage) -> BoxTable:
        import shapely

        file = self.files.read(self.path, self.layer)
        numbers = class_numbers(file, self.class_names, self.class_names)
        warn_of_classless(file.source, file.classes, file.numbers, "they are left out")
        polygons, rows = file.on(image)
        known = numbers[rows] >= 0
        x0, y0, x1, y1 = shapely.bounds(polygons[known]).reshape(-1, 4).T
        edges = np.stack([y0, x0, y1, x1], axis=1)
        boxes = BoxTable.of(edges, numbers[rows][known], areas=shapely.area(polygons[known]))
        return cut_boxes(boxes, 0, 0, *image.shape)


def _place(image: LargeImage) -> Hashable:
    """What tells one image from another as far as polygons lie in it."""
    return image.name, image.shape, image.transform, image.crs, image.qupath_origin
