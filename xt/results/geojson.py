"""Points, boxes and outlines as GeoJSON, written feature by feature.

For images with a transform the coordinates are the map's and the properties plain, for QGIS and GDAL. RFC 7946 knows
only degrees; as these programs do, we name any other coordinate system in a "crs" member (GeoJSON 2008), and turn
coordinates into degrees where the system has no name. For images without a transform (slides, photos) coordinates are
pixels and the properties those of QuPath's objects, to be opened there by File > Import objects.
"""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from xt.output import atomic_path
from xt.results.colours import Colour
from xt.results.coordinates import Place
from xt.results.outlines import Outline

# Which edges make each corner of a box's ring, as (y, x): counter-clockwise as seen on a screen, closed.
_BOX_CORNERS = np.array([(0, 1), (2, 1), (2, 3), (0, 3), (0, 1)])
_AT_ONCE = 1 << 14


class Features(ABC):
    """A file that features are added to."""

    @abstractmethod
    def add_points(
        self,
        y: NDArray[np.floating],
        x: NDArray[np.floating],
        labels: NDArray[Any],
        numbers: Mapping[str, NDArray[np.floating]],
    ) -> None:
        """Points, each a feature.

        Args:
            y, x: (N,) in pixels of the image.
            labels: (N,) class numbers.
            numbers: (N,) each, what else is known of them, such as their score; NaN for what is not.
        """

    @abstractmethod
    def add_boxes(
        self, edges: NDArray[np.float64], labels: NDArray[Any], numbers: Mapping[str, NDArray[np.floating]]
    ) -> None:
        """Upright boxes, each a polygon of four corners; on a turned map they are turned, too.

        Args:
            edges: (N, 4) in pixels of the image, each y0, x0, y1, x1.
            labels, numbers: as of `add_points`.
        """

    @abstractmethod
    def add_outline(self, outline: Outline) -> None:
        """A polygon with its holes."""


def box_rings(edges: NDArray[np.float64], place: Place) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 5) y and x of the corners of boxes, closed, counter-clockwise on the map.

    Args:
        edges: as of `Features.add_boxes`.
    """
    y, x = (edges[:, columns] for columns in (_BOX_CORNERS[::-1] if place.mirrored else _BOX_CORNERS).T)
    return y, x


def outline_rings(outline: Outline, place: Place) -> Iterator[NDArray[Any]]:
    """(n, 2) y and x of each of its rings, closed, the outer one counter-clockwise on the map."""
    for corners in outline.rings:
        ring = np.concatenate([corners, corners[:1]])
        yield ring[::-1] if place.mirrored else ring


class FeatureWriter(Features):
    """A feature collection that grows; made by `feature_collection`. Numbers that are NaN are left out."""

    def __init__(
        self, file: TextIO, place: Place, class_names: Sequence[str], colours: Sequence[Colour]
    ) -> None:
        self._file = file
        self._place = place
        self._names = class_names
        self._colours = colours
        self.count = 0

    def add_points(
        self,
        y: NDArray[np.floating],
        x: NDArray[np.floating],
        labels: NDArray[Any],
        numbers: Mapping[str, NDArray[np.floating]],
    ) -> None:
        columns = {name: values.tolist() for name, values in numbers.items()}
        places = zip(self._rounded(y, x), labels.astype(int).tolist(), strict=True)
        for row, (coordinates, label) in enumerate(places):
            known = {name: values[row] for name, values in columns.items()}
            self._add({"type": "Point", "coordinates": coordinates}, label, known)

    def add_boxes(
        self, edges: NDArray[np.float64], labels: NDArray[Any], numbers: Mapping[str, NDArray[np.floating]]
    ) -> None:
        for start in range(0, len(edges), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            y, x = box_rings(edges[some], self._place)
            rings = self._place.coordinates(y.ravel(), x.ravel()).round(self._place.decimals)
            rings = rings.reshape(*y.shape, 2).tolist()
            columns = {name: values[some].tolist() for name, values in numbers.items()}
            for row, (ring, label) in enumerate(zip(rings, labels[some].astype(int).tolist(), strict=True)):
                known = {name: values[row] for name, values in columns.items()}
                self._add({"type": "Polygon", "coordinates": [ring]}, label, known)

    def add_outline(self, outline: Outline) -> None:
        rings = [self._rounded(ring[:, 0], ring[:, 1]) for ring in outline_rings(outline, self._place)]
        self._add({"type": "Polygon", "coordinates": rings}, outline.label, {"area_px": outline.area})

    def _rounded(self, y: NDArray[Any], x: NDArray[Any]) -> list[list[float]]:
        rounded = self._place.coordinates(y, x).round(self._place.decimals)
        whole = (rounded == np.floor(rounded)).all() and not self._place.is_map
        return (rounded.astype(np.int64) if whole else rounded).tolist()

    def _add(self, geometry: dict[str, Any], label: int, numbers: Mapping[str, float]) -> None:
        known = {name: _short(value) for name, value in numbers.items() if math.isfinite(value)}
        name = self._names[label]
        properties: dict[str, Any]
        if self._place.is_map:
            properties = {"class": name, "label": label, **known}
        else:
            classification = {"name": name, "color": list(self._colours[label])}
            properties = {"objectType": "detection", "classification": classification, "measurements": known}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        try:
            text = _json(feature)
        except ValueError:
            # A part of it has no coordinates; RFC 7946 calls that an unlocated feature.
            text = _json(feature | {"geometry": None})
        self._file.write((",\n" if self.count else "\n") + text)
        self.count += 1


def _json(feature: dict[str, Any]) -> str:
    # Not json.dump, which is in Python and takes five times as long.
    return json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.7g}")


@contextmanager
def feature_collection(
    destination: str | os.PathLike[str], place: Place, class_names: Sequence[str], colours: Sequence[Colour]
) -> Iterator[FeatureWriter]:
    """A GeoJSON file to add features to; it is there, wholly, when the block ends well.

    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection",')
        if place.is_map and place.crs_name is not None:
            crs = {"type": "name", "properties": {"name": place.crs_name}}
            file.write(f'"crs":{json.dumps(crs)},')
        file.write('"features":[')
        yield FeatureWriter(file, place, class_names, colours)
        file.write("\n]}\n")
