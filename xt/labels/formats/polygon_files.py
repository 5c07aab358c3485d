"""Files of polygons, read when they are needed and kept while there is room; where their polygons lie in an image."""

import threading
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from xt.errors import DataWarning, TableError
from xt.images import LargeImage
from xt.labels.formats.columns import class_name
from xt.labels.formats.point_files import labels_of
from xt.labels.formats.systems import System
from xt.labels.formats.vector_files import read_vector
from xt.labels.image_table import class_indices

Made = TypeVar("Made")

# About 300 MB of coordinates; what is let go is read again.
_MOST_CORNERS = 20_000_000


class Drawn(NamedTuple):
    """Polygons that touch an image.

    Attributes:
        polygons: (N,) of shapely, x before y, in pixels of its level 0.
        rows: (N,) which of the file's they are, rising.
    """

    polygons: NDArray[np.object_]
    rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PolygonFile:
    """The polygons of a file.

    Attributes:
        source: the path, for messages.
        polygons: (N,) polygons and multi-polygons of shapely, in whatever the file counts in.
        numbers: (N,) which of the file's features each is, from 0.
        classes: (N,) names; "" where there is none.
        system: what x and y count.
    """

    source: str
    polygons: NDArray[np.object_]
    numbers: NDArray[np.int64]
    classes: NDArray[np.object_]
    system: System

    def on(self, image: LargeImage) -> Drawn:
        """Those that touch an image, wholly, also where they reach beyond it.

        Warns of polygons that the image's map cannot show wholly, which are left out.

        Raises:
            TableError: one in pixels lies outside the image; or nobody can say where they lie.
        """
        import shapely

        placed = shapely.transform(self.polygons, lambda places: self._in_pixels(places, image))
        bounds = shapely.bounds(placed).reshape(-1, 4)
        y0, x0, y1, x1 = bounds[:, 1], bounds[:, 0], bounds[:, 3], bounds[:, 2]
        height, width = image.shape
        touching = (y1 > 0) & (x1 > 0) & (y0 < height) & (x0 < width)
        if self.system.in_pixels(image) and not touching.all():
            row = int((~touching).argmax())
            raise TableError(
                f"{self.source}: the polygon y={y0[row]:g} to {y1[row]:g}, x={x0[row]:g} to {x1[row]:g} (feature "
                f"{self.numbers[row]}, counted from 0) lies outside of {image.name}, which is {height} x {width} pixels"
            )
        rows = np.flatnonzero(touching)
        # A corner that has no place in the image's map has no pixel.
        corners, whose = shapely.get_coordinates(placed[rows], return_index=True)
        lost = np.unique(whose[~np.isfinite(corners).all(axis=1)])
        if len(lost):
            warnings.warn(
                f"{self.source}: {len(lost)} of the {len(rows)} polygons on {image.name} reach beyond what its map can "
                "show, and are left out; cut them, or give them in its own coordinate system",
                DataWarning,
                stacklevel=2,
            )
            rows = np.delete(rows, lost)
        return Drawn(placed[rows], rows)

    def _in_pixels(self, places: NDArray[np.float64], image: LargeImage) -> NDArray[np.float64]:
        y, x = self.system.to_pixels(image, places[:, 0], places[:, 1], self.source)
        return np.stack([x, y], axis=1)


class PolygonFiles:
    """Reads files of polygons, and keeps what was made of them lately; a copy in another process begins with nothing.

    Args:
        class_column: see `VectorFile.classes`.
    """

    def __init__(self, class_column: str | None = None) -> None:
        self.class_column = class_column
        self._lock = threading.RLock()
        # The newest is kept however large it is.
        self._kept: LRUCache[Hashable, tuple[Any, int]] = LRUCache(
            _MOST_CORNERS, getsizeof=lambda kept: min(kept[1], _MOST_CORNERS)
        )

    def read(self, path: Path, layer: str | None) -> PolygonFile:
        """A file's polygons.

        Raises:
            TableError: it is none, or one of its geometries is something else.
        """
        return self.kept((path, layer), lambda: self._read(path, layer), lambda file: _corners(file.polygons))

    def kept(self, key: Hashable, make: Callable[[], Made], corners: Callable[[Made], int]) -> Made:
        """What was made by this key, or made now.

        Args:
            corners: how many it has, by which the oldest are let go.
        """
        with self._lock:
            if key not in self._kept:
                made = make()
                self._kept[key] = made, corners(made)
            return self._kept[key][0]

    def _read(self, path: Path, layer: str | None) -> PolygonFile:
        file = read_vector(path, layer)
        file.require(file.of_kind("Polygon"), "polygons are expected")
        return PolygonFile(
            file.source, file.geometries, file.numbers, file.classes(self.class_column), file.system
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"class_column": self.class_column}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def class_numbers(
    file: PolygonFile, class_names: tuple[str, ...], only: tuple[str, ...]
) -> NDArray[np.int64]:
    """(N,) of each polygon the place of its class in the names, -1 where it has none.

    Of a file that gives no classes all are of the only one there is. One that QuPath ignores, by a star at the end of
    its name, is none unless it is among the names.

    Args:
        only: the names without what is unlabelled.
    Raises:
        TableError: a class is not among the names, or none is given where several are known.
    """
    names = {class_name(name) for name in class_names}
    if not any(file.classes):
        return class_names.index(only[0]) + labels_of(file.classes, only, file.source)
    known = np.array(
        [bool(name) and (name in names or not name.endswith("*")) for name in file.classes], bool
    )
    numbers = np.full(len(known), -1, np.int64)
    numbers[known] = class_indices(
        file.classes[known].tolist(), class_names, file.source, file.numbers[known].tolist()
    )
    return numbers


def _corners(polygons: NDArray[np.object_]) -> int:
    import shapely

    return int(shapely.get_num_coordinates(polygons).sum())
