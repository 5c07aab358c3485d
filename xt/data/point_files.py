"""Points as people label them: CSV and GeoJSON files, in pixels or on the map.

    y,x,label,length                 CSV, in pixels: the centre of the top left pixel is (0.5, 0.5)
    longitude,latitude,label         CSV, in degrees; or map_x,map_y in the image's own coordinate system
    {"type": "FeatureCollection"}    GeoJSON, in the coordinate system that it names, else in degrees; in pixels for
                                     images that lie on no map, and for QuPath's objects

A file is read once; where its points lie in an image is known only when the image is open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.data.columns import as_frame, classes_of, numbers, yes_or_no
from xt.data.table import class_indices
from xt.data.text_files import read_json
from xt.errors import TableError
from xt.heads.point_table import PointTable
from xt.images import LargeImage
from xt.images.projection import is_on_earth, transformed

ONLY_CLASS = "point"
"""What the class is called where files name none."""

_PIXELS, _OWN_MAP, _UNNAMED, _DEGREES = "pixels", "the image's map", "not named", "EPSG:4326"
# Columns of a CSV file, y before x, by what they count in.
_AXES = (
    (("y", "x"), _PIXELS),
    (("map_y", "map_x"), _OWN_MAP),
    (("latitude", "longitude"), _DEGREES),
    (("lat", "lon"), _DEGREES),
)
# In our own files "class" is the name and "label" the number.
_CLASS_COLUMNS = ("class", "label")


@dataclass(frozen=True, eq=False)
class PointFile:
    """The points of a file.

    Attributes:
        source: the path, for messages.
        y: (N,) in whatever the file counts in.
        x: likewise.
        classes: (N,) names, "" where there is none.
        attributes: name -> (N,) float64, NaN where unknown.
        system: a coordinate system as rasterio reads it, or one of the words above.
    """

    source: str
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    classes: NDArray[np.object_]
    attributes: Mapping[str, NDArray[np.float64]]
    system: str

    def on(self, image: LargeImage, class_names: Sequence[str]) -> PointTable:
        """The points that lie on an image, in its pixels.

        A file of map coordinates may go beyond the image, as one that serves several images does.

        Raises:
            TableError: a point in pixels lies outside the image; the coordinates are on a map and the image is not; or
                a class is not among the names.
        """
        y, x = self._pixels(image)
        labels = (
            np.zeros(len(y), np.int64)
            if len(class_names) == 1 and not any(self.classes)
            else class_indices(list(self.classes), class_names, self.source)
        )
        inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
        if self._in_pixels(image) and not inside.all():
            row = int(np.flatnonzero(~inside)[0])
            raise TableError(
                f"{self.source}: the point y={y[row]:g}, x={x[row]:g} (row {row}) lies outside of {image.name}, which "
                f"is {image.shape[0]} x {image.shape[1]} pixels"
            )
        return PointTable(y, x, labels, attributes=self.attributes).select(inside)

    def _in_pixels(self, image: LargeImage) -> bool:
        return self.system == _PIXELS or (self.system == _UNNAMED and image.location is None)

    def _pixels(self, image: LargeImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self._in_pixels(image):
            return self.y, self.x
        if image.location is None:
            raise TableError(
                f"{self.source} has coordinates on a map ({self.system}), but {image.name} does not say where it lies; "
                "give the points in pixels: a CSV file with columns y and x"
            )
        return image.location.to_pixels(*self._on_map(image))

    def _on_map(self, image: LargeImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y) in the image's own coordinate system."""
        from rasterio.crs import CRS
        from rasterio.errors import CRSError

        system = self.system
        wanted = None if image.crs is None else CRS.from_user_input(image.crs)
        if wanted is not None and not is_on_earth(wanted):
            wanted = None
        if system == _OWN_MAP or (system == _UNNAMED and wanted is None) or not len(self.x):
            return self.x, self.y
        if system == _UNNAMED:
            # RFC 7946: without a name the coordinates are degrees.
            if np.abs(self.x).max() > 180 or np.abs(self.y).max() > 90:
                raise TableError(
                    f"{self.source} names no coordinate system, so its coordinates must be degrees, and "
                    f"({self.x[0]:g}, {self.y[0]:g}) is not; add a 'crs' member, as QGIS and ogr2ogr write it"
                )
            system = _DEGREES
        if wanted is None:
            raise TableError(
                f"{self.source} is in {system}, but {image.name} has no coordinate system to turn it into"
            )
        try:
            source = CRS.from_user_input(system)
        except CRSError:
            raise TableError(
                f"{self.source} names the coordinate system {system!r}, which is unknown"
            ) from None
        # What has no place in the image's system lies beyond the image.
        return transformed(source, wanted, self.x, self.y)


def read_points(
    path: str | Path, *, class_column: str | None = None, attributes: Mapping[str, str] | None = None
) -> PointFile:
    """Read a CSV or GeoJSON file of points; of polygons in GeoJSON the centre is taken.

    Args:
        class_column: column (GeoJSON: property) of the class; without it "class", else "label", else QuPath's
            classification, else none.
        attributes: name -> "yes_no" or "number", the columns (properties) wanted besides.
    Raises:
        TableError: the file is missing or unreadable, or a column is missing or holds something else.
    """
    path = Path(path)
    attributes = attributes or {}
    if path.suffix.lower() in (".geojson", ".json"):
        frame, system = _read_geojson(path)
        axes = ("y", "x")
    else:
        frame, _ = as_frame(path, str(path))
        axes, system = _axes(frame, path)
    source = str(path)
    classes = _classes(frame, class_column, source)
    for name in attributes:
        if name not in frame and len(frame):
            there = ", ".join(str(column) for column in frame.columns)
            raise TableError(
                f"{source} has no column {name!r} for the attribute of that name; it has {there}"
            )
    read = {"yes_no": yes_or_no, "number": numbers}
    return PointFile(
        source=source,
        y=numbers(frame, axes[0], source, gaps=False),
        x=numbers(frame, axes[1], source, gaps=False),
        classes=classes,
        attributes={name: read[kind](frame, name, source) for name, kind in attributes.items()},
        system=system,
    )


def _axes(frame: pd.DataFrame, path: Path) -> tuple[tuple[str, str], str]:
    for axes, system in _AXES:
        if all(name in frame for name in axes):
            return axes, system
    raise TableError(
        f"{path}: expected columns y and x (pixels), map_y and map_x (the image's map), or latitude and longitude; its "
        f"columns are {', '.join(str(name) for name in frame.columns)}"
    )


def _classes(frame: pd.DataFrame, column: str | None, source: str) -> NDArray[np.object_]:
    if column is None:
        column = next((name for name in _CLASS_COLUMNS if name in frame), None)
        return np.full(len(frame), "", object) if column is None else classes_of(frame, column)
    if column not in frame and len(frame):
        there = ", ".join(str(name) for name in frame.columns)
        raise TableError(f"{source} has no column {column!r} for the class; it has {there}")
    return classes_of(frame, column) if column in frame else np.full(len(frame), "", object)


def _read_geojson(path: Path) -> tuple[pd.DataFrame, str]:
    """A row a feature, with columns y and x and the properties; and the coordinate system."""
    try:
        content = read_json(path, "file of points")
        features = content if isinstance(content, list) else content["features"]
        # One without a geometry is known to lie nowhere.
        rows = [_row(feature) for feature in features if feature.get("geometry") is not None]
    except TableError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise TableError(
            f"{path} is not a GeoJSON collection of points or polygons ({type(error).__name__}: {error})"
        ) from None
    named = content.get("crs") if isinstance(content, Mapping) else None
    if any(row.get("objectType") for row in rows):
        system = _PIXELS
    elif named:
        system = str(named["properties"]["name"])
    else:
        system = _UNNAMED
    return pd.DataFrame(rows if rows else None, columns=None if rows else ["y", "x"]), system


def _row(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = dict(feature.get("properties") or {})
    # QuPath's objects: the class one level down, numbers another.
    classification = properties.pop("classification", None)
    if isinstance(classification, Mapping):
        properties.setdefault("class", classification.get("name", ""))
    measurements = properties.pop("measurements", None)
    if isinstance(measurements, Mapping):
        properties = {**measurements, **properties}
    geometry = feature["geometry"]
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "MultiPoint" and len(coordinates) == 1:
        # As QGIS writes a layer that could hold several.
        kind, coordinates = "Point", coordinates[0]
    if kind == "Point":
        x, y = coordinates[:2]
    elif kind in ("Polygon", "MultiPolygon"):
        rings = [coordinates[0]] if kind == "Polygon" else [polygon[0] for polygon in coordinates]
        y, x = _centre(max((np.asarray(ring, np.float64)[:, :2] for ring in rings), key=_area))
    else:
        raise ValueError(f"a feature is a {kind}")
    return {**properties, "y": float(y), "x": float(x)}


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2


def _centre(ring: NDArray[np.float64]) -> tuple[float, float]:
    """(y, x) of the centre of gravity inside a closed ring of (x, y); of a line or a dot the mean of its corners."""
    # From a corner of its own: far from the map's origin the products would have no digits left.
    x, y = (ring - ring[0]).T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    if abs(cross.sum()) <= 1e-12 * max(float(np.abs(ring - ring[0]).max()) ** 2, 1e-300):
        return float(ring[:, 1].mean()), float(ring[:, 0].mean())
    third = 3 * cross.sum()
    centre_x = float(((x[:-1] + x[1:]) * cross).sum() / third)
    centre_y = float(((y[:-1] + y[1:]) * cross).sum() / third)
    return centre_y + float(ring[0, 1]), centre_x + float(ring[0, 0])
