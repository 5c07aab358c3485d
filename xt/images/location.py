"""Where an image lies on a map, and the way between its pixels and the map's coordinates, there and back.

Most files have six numbers for it. Others, as they come from a radar or a satellite's camera, have ground control
points or rational polynomials. GDAL makes functions of these, and we take the ones that it takes where nobody says
otherwise: of control points the polynomial of best fit (of first order for up to five points, else of second; it passes
by the points, not through them, as thin plate splines would), of rational polynomials those at height 0.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.errors import DataWarning, ImageError
from xt.images.projection import Coordinates, transformed

if TYPE_CHECKING:
    from rasterio.rpc import RPC

Transform = tuple[float, float, float, float, float, float]

# Polynomials fold far outside of what they were made for. A place that does not come back to where it was, by this part
# of the image's extent, is no place of the image.
_FOLDED = 0.1
# Up to this, in pixels, two images are in one place: by so much polynomials, there and back, differ.
SAME_PLACE = 2.0
_DEGREES = "EPSG:4326"


class Location(ABC):
    """Where an image lies: (y, x) in its pixels, (0, 0) being the outer corner of the top left one, to (x, y) on a map.

    Attributes:
        crs: coordinate system of the map as rasterio writes it; None if it has no name.
    """

    crs: str | None

    @abstractmethod
    def to_map(self, y: NDArray[Any], x: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        """(N,) x and y on the map of pixels; NaN where there is no such place."""

    @abstractmethod
    def to_pixels(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        """(N,) y and x in pixels of places on the map; NaN for places that the image cannot show."""

    def pixel_area(self, shape: tuple[int, int]) -> float:
        """The area of a pixel in the middle of an image of this shape, in square map units; below 0 where the map is
        seen from above as usual, with y upwards on it and downwards in pixels."""
        middle_y, middle_x = (side / 2 for side in shape)
        x, y = self.to_map(
            np.array([middle_y, middle_y, middle_y + 1]), np.array([middle_x, middle_x + 1, middle_x])
        )
        return float((x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]))


@dataclass(frozen=True)
class AffineLocation(Location):
    """Six numbers, as `LargeImage.transform`."""

    transform: Transform
    crs: str | None = None

    def to_map(self, y: NDArray[Any], x: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        return apply(self.transform, x, y)

    def to_pixels(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        column, row = apply(inverse(self.transform), x, y)
        return row, column


class Control(Location):
    """What locates an image in place of six numbers.

    Attributes:
        source: the file's name, for messages.
    """

    source: str

    @abstractmethod
    def seen_through(self, pixel_map: Transform) -> Control:
        """That of a view, whose (x, y) are in the image where `pixel_map` takes them."""

    @abstractmethod
    def write_to(self, dataset: Any) -> None:
        """Say it in a file that rasterio writes."""

    @abstractmethod
    def _there(self, y: Coordinates, x: Coordinates) -> tuple[Coordinates, Coordinates]:
        """As `to_map`, by GDAL; anything where there is no such place."""

    @abstractmethod
    def _back(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        """As `to_pixels`, by GDAL; anything where there is no such place."""

    @property
    @abstractmethod
    def _extent(self) -> tuple[float, float]:
        """Roughly that of the image, along x and y on the map."""

    def to_map(self, y: NDArray[Any], x: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        if not len(x):
            return _floats(x), _floats(y)
        map_x, map_y = self._there(_floats(y), _floats(x))
        lost = ~(np.isfinite(map_x) & np.isfinite(map_y))
        map_x[lost], map_y[lost] = np.nan, np.nan
        return map_x, map_y

    def to_pixels(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
        if not len(x):
            return _floats(y), _floats(x)
        x, y = _floats(x), _floats(y)
        row, column = self._back(x, y)
        with np.errstate(invalid="ignore"):
            x_again, y_again = self.to_map(row, column)
            near = np.abs(x_again - x) <= _FOLDED * self._extent[0]
            near &= np.abs(y_again - y) <= _FOLDED * self._extent[1]
        row[~near], column[~near] = np.nan, np.nan
        return row, column


class ControlPoint(NamedTuple):
    """A place in pixels that is known on the map, its height in z."""

    y: float
    x: float
    map_x: float
    map_y: float
    z: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class ControlPoints(Control):
    """Ground control points."""

    source: str
    points: tuple[ControlPoint, ...]
    crs: str | None = None

    def seen_through(self, pixel_map: Transform) -> ControlPoints:
        x, y = apply(
            inverse(pixel_map),
            np.array([each.x for each in self.points]),
            np.array([each.y for each in self.points]),
        )
        moved = [each._replace(y=float(y[n]), x=float(x[n])) for n, each in enumerate(self.points)]
        return replace(self, points=tuple(moved))

    def write_to(self, dataset: Any) -> None:
        from rasterio.crs import CRS

        dataset.gcps = self._gcps(0.0), CRS() if self.crs is None else CRS.from_string(self.crs)

    def __str__(self) -> str:
        return f"{len(self.points)} ground control points (their polynomial misses them by {self.misses():.2g} pixels)"

    def misses(self) -> float:
        """By how many pixels the polynomial passes by the points, on average."""
        y, x, map_x, map_y, *_ = (np.array(values) for values in zip(*self.points, strict=True))
        row, column = self._back(map_x.astype(np.float64), map_y.astype(np.float64))
        return float(np.hypot(row - y, column - x).mean())

    def _there(self, y: Coordinates, x: Coordinates) -> tuple[Coordinates, Coordinates]:
        with self._transformer() as transformer:
            map_x, map_y = transformer.xy(y, x, offset="ul")
        return _floats(np.where(map_x > 180, map_x - 360, map_x) if self._turn else map_x), _floats(map_y)

    def _back(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        if self._turn:
            x = np.where(x < 0, x + 360, x)
        with self._transformer() as transformer:
            row, column = transformer.rowcol(x, y, op=np.positive)
        return _floats(row), _floats(column)

    @property
    def _extent(self) -> tuple[float, float]:
        gcps = self._gcps(self._turn)
        x, y = [each.x for each in gcps], [each.y for each in gcps]
        return max(x) - min(x), max(y) - min(y)

    @functools.cached_property
    def _turn(self) -> float:
        """What is added to degrees west where the image crosses the date line, so that it is in one piece: 360 or 0."""
        from rasterio.crs import CRS

        x = [each.map_x for each in self.points]
        crosses = max(x) > 180 or max(x) - min(x) > 180
        return 360.0 if crosses and self.crs is not None and CRS.from_string(self.crs).is_geographic else 0.0

    def _gcps(self, turn: float) -> list[Any]:
        from rasterio.control import GroundControlPoint

        return [
            GroundControlPoint(
                each.y,
                each.x,
                each.map_x + (turn if each.map_x < 0 else 0),
                each.map_y,
                each.z,
                each.name or None,
            )
            for each in self.points
        ]

    @contextmanager
    def _transformer(self) -> Iterator[Any]:
        from rasterio._err import CPLE_BaseError
        from rasterio.transform import GCPTransformer

        try:
            transformer = GCPTransformer(self._gcps(self._turn))
        except CPLE_BaseError as error:
            raise ImageError(
                f"the {len(self.points)} ground control points of {self.source} do not say where it lies ({error}): "
                "three are needed, not on one line; give it better ones (gdal_translate -gcp)"
            ) from None
        with transformer:
            yield transformer


@dataclass(frozen=True)
class RationalPolynomials(Control):
    """Rational polynomial coefficients of a satellite's camera; the map is in degrees."""

    source: str
    rpcs: RPC
    crs: str | None = _DEGREES

    def seen_through(self, pixel_map: Transform) -> RationalPolynomials:
        a, b, c, d, e, f = pixel_map
        lines, samples = ("line", self.rpcs.line_off), ("samp", self.rpcs.samp_off)
        # Views turn by quarters, so that a line of theirs is a line or a column of the image.
        if b == d == 0:
            along_y, along_x = (*lines, e, f), (*samples, a, c)
        else:
            along_y, along_x = (*samples, b, c), (*lines, d, f)
        return replace(self, rpcs=_with(self.rpcs, line=along_y, samp=along_x))

    def __str__(self) -> str:
        return "rational polynomials, taken at height 0"

    def write_to(self, dataset: Any) -> None:
        dataset.rpcs = self.rpcs

    def _there(self, y: Coordinates, x: Coordinates) -> tuple[Coordinates, Coordinates]:
        self._say_height()
        with _rpc_transformer(self.rpcs) as transformer:
            map_x, map_y = transformer.xy(y, x, zs=np.zeros(len(x)), offset="ul")
        return _floats(map_x), _floats(map_y)

    def _back(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        self._say_height()
        with _rpc_transformer(self.rpcs) as transformer:
            row, column = transformer.rowcol(x, y, zs=np.zeros(len(x)), op=np.positive)
        return _floats(row), _floats(column)

    @property
    def _extent(self) -> tuple[float, float]:
        return 2 * self.rpcs.long_scale, 2 * self.rpcs.lat_scale

    def _say_height(self) -> None:
        if self._moved_by_height > 1:
            warnings.warn(
                f"{self.source} is located by rational polynomials, which xt takes at height 0 as GDAL does; its "
                f"ground lies at about {self.rpcs.height_off:g} m, which moves places by {self._moved_by_height:,.0f} "
                "pixels: rectify it first (gdalwarp -rpc -to RPC_DEM=heights.tif) where that matters",
                DataWarning,
                stacklevel=2,
            )

    @functools.cached_property
    def _moved_by_height(self) -> float:
        """How far apart, in pixels, a place at height 0 is seen from the same at the height of the ground."""
        place = np.full(2, self.rpcs.long_off), np.full(2, self.rpcs.lat_off)
        with _rpc_transformer(self.rpcs) as transformer:
            row, column = transformer.rowcol(*place, zs=np.array([0.0, self.rpcs.height_off]), op=np.positive)
        return float(np.hypot(row[1] - row[0], column[1] - column[0]))


def control_of(dataset: Any, path: str) -> Control | None:
    """What locates an image that rasterio opened, if it is no transform."""
    if not dataset.transform.is_identity:
        return None
    points, crs = dataset.gcps
    if points:
        found = tuple(
            ControlPoint(each.row, each.col, each.x, each.y, each.z or 0.0, each.id or "") for each in points
        )
        return ControlPoints(path, found, crs.to_string() if crs else None)
    try:
        rpcs = dataset.rpcs
    except (KeyError, ValueError):
        # A part of them is missing.
        return None
    return None if rpcs is None else RationalPolynomials(path, rpcs)


def apart(one: Location | None, other: Location | None, shape: tuple[int, int]) -> float:
    """By how many pixels, at most, the corners of two images of this shape lie apart on the map; 0 where one of them
    does not say where it lies."""
    if one is None or other is None or (one.crs is None) != (other.crs is None):
        return 0.0
    y, x = np.array([0, 0, shape[0], shape[0]]), np.array([0, shape[1], 0, shape[1]])
    map_x, map_y = one.to_map(y, x)
    if one.crs is not None and other.crs is not None and one.crs != other.crs:
        map_x, map_y = transformed(one.crs, other.crs, map_x, map_y)
    there_y, there_x = other.to_pixels(map_x, map_y)
    return float(np.nan_to_num(np.hypot(there_y - y, there_x - x), nan=np.inf).max())


def apply(transform: Transform, x: NDArray[Any], y: NDArray[Any]) -> tuple[Coordinates, Coordinates]:
    a, b, c, d, e, f = transform
    x, y = _floats(x), _floats(y)
    return a * x + b * y + c, d * x + e * y + f


def inverse(transform: Transform) -> Transform:
    """The transform back."""
    a, b, c, d, e, f = transform
    area = a * e - b * d
    return e / area, -b / area, (b * f - c * e) / area, -d / area, a / area, (c * d - a * f) / area


def compose(outer: Transform, inner: Transform) -> Transform:
    """The transform that applies `inner` first, then `outer`."""
    a, b, c, d, e, f = outer
    ai, bi, ci, di, ei, fi = inner
    return (
        a * ai + b * di,
        a * bi + b * ei,
        a * ci + b * fi + c,
        d * ai + e * di,
        d * bi + e * ei,
        d * ci + e * fi + f,
    )


def _with(rpcs: RPC, **axes: tuple[str, float, float, float]) -> RPC:
    """Polynomials whose axes ("line" or "samp") are made of those of others: which, its offset, how many of its pixels
    one spans (below 0 if it runs the other way), and where its first begins."""
    changed: dict[str, Any] = {}
    for axis, (other, offset, step, start) in axes.items():
        sign = 1 if step > 0 else -1
        # Offsets count from the middle of the first pixel.
        changed[f"{axis}_off"] = (offset + 0.5 - start) / step - 0.5
        changed[f"{axis}_scale"] = getattr(rpcs, f"{other}_scale") / abs(step)
        changed[f"{axis}_num_coeff"] = [sign * value for value in getattr(rpcs, f"{other}_num_coeff")]
        changed[f"{axis}_den_coeff"] = list(getattr(rpcs, f"{other}_den_coeff"))
    return type(rpcs)(**{**rpcs.to_dict(), **changed})


def _rpc_transformer(rpcs: RPC) -> Any:
    from rasterio.transform import RPCTransformer

    return RPCTransformer(rpcs)


def _floats(values: Any) -> Coordinates:
    return np.array(values, dtype=np.float64)
