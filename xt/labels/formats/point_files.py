"""Points as people label them: CSV files, and all files of geometries, in pixels or on the map.

    y,x,label,length                 CSV, in pixels: the centre of the top left pixel is (0.5, 0.5)
    longitude,latitude,label         CSV, in degrees; or map_x,map_y in the image's own coordinate system
    {"type": "FeatureCollection"}    GeoJSON, in the coordinate system that it names, else in degrees; in pixels for
                                     images that lie on no map, and for QuPath's objects
    points.gpkg, trees.shp, ...      see `xt.labels.formats.vector_files`

A file is read once; where its points lie in an image is known only when the image is open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import TableError
from xt.images import LargeImage
from xt.labels.formats.columns import as_frame, numbers, yes_or_no
from xt.labels.formats.systems import DEGREES, Named, OwnMap, Pixels, System
from xt.labels.formats.vector_files import (
    VectorFile,
    class_column_of,
    is_vector_file,
    read_vector,
    warn_of_classless,
)
from xt.labels.image_table import class_indices, in_short
from xt.labels.point_table import PointTable

ONLY_CLASS = "point"
"""What the class is called where files name none."""

# Columns of a CSV file, y before x, by what they count in.
_AXES: tuple[tuple[tuple[str, str], System], ...] = (
    (("y", "x"), Pixels()),
    (("map_y", "map_x"), OwnMap()),
    (("latitude", "longitude"), Named(DEGREES)),
    (("lat", "lon"), Named(DEGREES)),
    (("lat", "lng"), Named(DEGREES)),
    (("decimallatitude", "decimallongitude"), Named(DEGREES)),
)


@dataclass(frozen=True, eq=False)
class PointFile:
    """The points of a file.

    Attributes:
        source: the path, for messages.
        y: (N,) in whatever the file counts in.
        x: likewise.
        classes: (N,) names; "" of all of them where the file has none.
        attributes: name -> (N,) float64, NaN where unknown.
        system: what y and x count.
    """

    source: str
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    classes: NDArray[np.object_]
    attributes: Mapping[str, NDArray[np.float64]]
    system: System

    def on(self, image: LargeImage, class_names: Sequence[str]) -> PointTable:
        """The points that lie on an image, in its pixels.

        A file of map coordinates may go beyond the image, as one that serves several images does.

        Raises:
            TableError: a point in pixels lies outside the image; the coordinates are on a map and the image is not; or
                a class is not among the names.
        """
        y, x = self.system.to_pixels(image, self.x, self.y, self.source)
        labels = labels_of(self.classes, class_names, self.source)
        inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
        if self.system.in_pixels(image) and not inside.all():
            row = int(np.flatnonzero(~inside)[0])
            raise TableError(
                f"{self.source}: the point y={y[row]:g}, x={x[row]:g} (row {row}) lies outside of {image.name}, which "
                f"is {image.shape[0]} x {image.shape[1]} pixels"
            )
        return PointTable(y, x, labels, attributes=self.attributes).select(inside)


def labels_of(classes: NDArray[np.object_], class_names: Sequence[str], source: str) -> NDArray[np.int64]:
    """(N,) class numbers; where nothing has a class and there is one only, that.

    Raises:
        TableError: a class is not among the names, or there are none where several are known.
    """
    if any(classes) or not len(classes):
        return class_indices(list(classes), class_names, source)
    if len(class_names) == 1:
        return np.zeros(len(classes), np.int64)
    raise TableError(
        f"{source}: none of its {len(classes)} objects has a class, and there are {in_short(class_names)}; give them "
        "one as property or column 'class', or say by labels.label_columns which holds it"
    )


def read_points(
    path: str | Path,
    *,
    class_column: str | None = None,
    attributes: Mapping[str, str] | None = None,
    layer: str | None = None,
) -> PointFile:
    """Read a file of points, CSV or geometries; of polygons the centre is taken, of several points each.

    Warns of objects without a class where others have one, and leaves them out.

    Args:
        class_column: column (property) of the class; without it "class", else "label", else QuPath's classification,
            else none.
        attributes: name -> "yes_no" or "number", the columns (properties) wanted besides.
        layer: of a file that has several.
    Raises:
        TableError: the file is missing or unreadable, a column is missing or holds something else, or a geometry is
            neither points nor polygons.
    """
    path, source = Path(path), str(path)
    if is_vector_file(path):
        file = read_vector(path, layer)
        rows, points = _points(file)
        frame, system = file.properties.iloc[rows].set_axis(file.numbers[rows]), file.system
        x, y = points.T
    else:
        frame, _ = as_frame(path, source)
        axes, system = _axes(frame, path)
        y, x = (numbers(frame, axis, source, gaps=False) for axis in axes)
    classes = class_column_of(frame, class_column, source)
    read = {"yes_no": yes_or_no, "number": numbers}
    for name in attributes or {}:
        if name not in frame and len(frame):
            there = ", ".join(str(column) for column in frame.columns)
            raise TableError(
                f"{source} has no column {name!r} for the attribute of that name; it has {there}"
            )
    known = {name: read[kind](frame, name, source) for name, kind in (attributes or {}).items()}
    kept = warn_of_classless(source, classes, frame.index, "they are left out")
    return PointFile(
        source,
        y[kept],
        x[kept],
        classes[kept],
        {name: values[kept] for name, values in known.items()},
        system,
    )


def _axes(frame: pd.DataFrame, path: Path) -> tuple[tuple[str, str], System]:
    # Of y and x the letters count: X and Y are ImageJ's in its own unit, or GIS' on some map.
    lower = {str(name).lower(): str(name) for name in reversed(frame.columns)}
    for axes, system in _AXES:
        if all(name in frame for name in axes):
            return axes, system
        if isinstance(system, Named) and all(name in lower for name in axes):
            return (lower[axes[0]], lower[axes[1]]), system
    raise TableError(
        f"{path}: expected columns y and x (pixels), map_y and map_x (the image's map), or latitude and longitude; its "
        f"columns are {', '.join(str(name) for name in frame.columns)}"
    )


def _points(file: VectorFile) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(N,) of which row each point is, and (N, 2) its x and y."""
    import shapely

    points, polygons = file.of_kind("Point"), file.of_kind("Polygon")
    file.require(points | polygons, "points are expected, or polygons, of which the centre is taken")
    single, rows = shapely.get_parts(file.geometries[points], return_index=True)
    shells, whose = shapely.get_parts(file.geometries[polygons], return_index=True)
    # Of an object in several parts the largest counts, without its holes.
    shells = shapely.polygons(shapely.get_exterior_ring(shells))
    order = np.lexsort((shapely.area(shells), whose))
    largest = order[np.flatnonzero(np.diff(whose[order], append=-1))]
    places = np.concatenate(
        [shapely.get_coordinates(single), shapely.get_coordinates(shapely.centroid(shells[largest]))]
    )
    numbers = np.concatenate([np.flatnonzero(points)[rows], np.flatnonzero(polygons)])
    order = np.argsort(numbers, kind="stable")
    return numbers[order], places[order]
