"""Objects that a person draws or corrects: points, boxes and polygons with a class, as on the wire and as GeoJSON."""

from __future__ import annotations

import json
import math
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from xt.errors import ConfigError
from xt.labels.formats.columns import class_name
from xt.results.coordinates import Place

KINDS = ("point", "box", "polygon")
REVISION = "xt_revision"
_LONGEST_NAME = 100
_MOST_CORNERS = 100_000
# Files have thousandths of a pixel; rounded up, one at the very edge would lie outside.
_EDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One object.

    Attributes:
        id: the same for as long as it is there, in every program that keeps it.
        class_name: "" for none yet.
        geometry: of shapely, x before y, in pixels of the image.
        revision: of the file when it was last changed.
        known: whatever else is known of it, such as its score; kept as it is.
    """

    id: str
    kind: str
    class_name: str
    geometry: Any
    revision: int = 0
    known: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def as_json(self) -> dict[str, Any]:
        """As the page has it: a point's `coordinates` are (y, x), a box's y0, x0, y1, x1, a polygon's its rings."""
        return {
            "id": self.id,
            "kind": self.kind,
            "class": self.class_name,
            "coordinates": _coordinates(self.kind, self.geometry),
            "score": self.known.get("score"),
            "revision": self.revision,
        }

    def as_feature(self, place: Place, label: int | None, colour: Sequence[int]) -> dict[str, Any]:
        """As GeoJSON, in the form of `xt.results.geojson`."""
        properties: dict[str, Any]
        if place.is_map:
            number = {} if label is None else {"label": label}
            properties = {"class": self.class_name or None, **number, **self.known}
        else:
            named = (
                {"classification": {"name": self.class_name, "color": list(colour)}}
                if self.class_name
                else {}
            )
            properties = {"objectType": "annotation", **named}
            if self.known:
                properties["measurements"] = dict(self.known)
        return {
            "type": "Feature",
            "id": self.id,
            REVISION: self.revision,
            "geometry": _as_geojson(self.geometry, place),
            "properties": properties,
        }


def new_id() -> str:
    """As QuPath names its objects."""
    return str(uuid.uuid4())


def named(name: Any) -> str:
    """A class as a person typed it.

    Raises:
        ConfigError: it is no name.
    """
    text = class_name(name) if isinstance(name, str) else ""
    if (
        not text
        or len(text) > _LONGEST_NAME
        or any(unicodedata.category(letter)[0] == "C" for letter in text)
    ):
        raise ConfigError(
            f"a class has a name of 1 to {_LONGEST_NAME} letters that can be seen, got {str(name)[:40]!r}"
        )
    return text


def drawn_geometry(kind: str, coordinates: Any, shape: tuple[int, int]) -> Any:
    """The geometry of what a person drew; see `Drawn.as_json`.

    Args:
        shape: of the image; a box is cut at its borders.
    Raises:
        ConfigError: these are no such coordinates, or lie beside the image.
    """
    import shapely

    height, width = shape
    if kind == "point":
        y, x = _numbers(coordinates, (2,), "a point is (y, x)")
        if not (0 <= y < height and 0 <= x < width):
            raise ConfigError(f"the point ({y:g}, {x:g}) is not in the image of {height} x {width} pixels")
        return shapely.Point(min(x, width - _EDGE), min(y, height - _EDGE))
    if kind == "box":
        y0, x0, y1, x1 = _numbers(coordinates, (4,), "a box is (y0, x0, y1, x1)")
        y0, y1, x0, x1 = min(y0, y1), max(y0, y1), min(x0, x1), max(x0, x1)
        y0, x0, y1, x1 = max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width))
        if y1 - y0 < _EDGE or x1 - x0 < _EDGE:
            raise ConfigError(f"the box has no area in the image of {height} x {width} pixels")
        return shapely.box(x0, y0, x1, y1)
    if kind == "polygon":
        rings = coordinates if isinstance(coordinates, list | tuple) else []
        if (
            not rings
            or sum(len(ring) if isinstance(ring, list | tuple) else 0 for ring in rings) > _MOST_CORNERS
        ):
            raise ConfigError(f"a polygon is a list of rings of (y, x), of at most {_MOST_CORNERS:,} corners")
        corners = [_numbers(ring, (-1, 2), "a ring is a list of (y, x)")[:, ::-1] for ring in rings]
        if any(len(np.unique(ring, axis=0)) < 3 for ring in corners):
            raise ConfigError("a polygon has at least three corners")
        polygon = shapely.Polygon(corners[0], corners[1:])
        if polygon.area < _EDGE or not polygon.intersects(shapely.box(0, 0, width, height)):
            raise ConfigError(f"the polygon has no area in the image of {height} x {width} pixels")
        return polygon
    raise ConfigError(f"what is drawn is one of {', '.join(KINDS)}, not {kind!r}")


def simple_parts(geometry: Any, kind: str) -> list[Any]:
    """A geometry of a file as those that can be corrected: of several polygons each, of a box its upright bounds."""
    import shapely

    parts = [part for part in shapely.get_parts(geometry) if not part.is_empty]
    return [shapely.box(*part.bounds) for part in parts] if kind == "box" else parts


def kind_of(geometry: Any) -> str:
    """What a geometry of a file is, where nobody knows what is labelled."""
    return "point" if "Point" in geometry.geom_type else "polygon"


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def finite(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a table of properties holds that which is a value."""
    plain = {
        str(name): value.item() if isinstance(value, np.generic) else value
        for name, value in properties.items()
    }
    return {
        name: value
        for name, value in plain.items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }


def _coordinates(kind: str, geometry: Any) -> Any:
    import shapely

    if kind == "point":
        return [geometry.y, geometry.x]
    if kind == "box":
        x0, y0, x1, y1 = geometry.bounds
        return [y0, x0, y1, x1]
    return [
        shapely.get_coordinates(ring)[:-1, ::-1].tolist() for ring in (geometry.exterior, *geometry.interiors)
    ]


def _as_geojson(geometry: Any, place: Place) -> dict[str, Any]:
    import shapely

    placed = shapely.transform(
        geometry, lambda corners: place.coordinates(corners[:, 1], corners[:, 0]).round(place.decimals)
    )
    if geometry.geom_type == "Polygon":
        # Outer rings counter-clockwise, as RFC 7946 wants them: of pixels, as seen on a screen.
        placed = shapely.orient_polygons(placed, exterior_cw=not place.is_map)
    found: dict[str, Any] = json.loads(shapely.to_geojson(placed))
    return found


def _numbers(values: Any, shape: tuple[int, ...], expected: str) -> Any:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    fits = numbers.ndim == len(shape) and all(
        side in (-1, own) for side, own in zip(shape, numbers.shape, strict=False)
    )
    if not fits or not np.isfinite(numbers).all():
        raise ConfigError(f"{expected}, finite numbers in pixels of the image")
    return numbers if numbers.ndim > 1 else [float(number) for number in numbers]
