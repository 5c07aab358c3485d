"""Polygons as an image: of each pixel the number of the topmost polygon's class, drawn window by window as it is read.

A pixel belongs to a polygon if its centre lies inside: GDAL's rule without `all_touched`, by which a mask of the same
polygons would have been drawn at once. Neighbours that share a border share no pixel, and what is thinner than a pixel
may have none. Rings count by even and odd, so that holes are holes and a ring that crosses itself is filled as QuPath
and QGIS fill it.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError
from xt.images.image import LargeImage

UNKNOWN = 255
"""In a mask: nothing is known about the pixel."""

# GDAL goes along all corners of a polygon for each row of a window: larger ones are cut to pieces once.
_MOST_CORNERS = 256
_LEAST_SIDE = 32.0
# No centre of a pixel lies on a cut, at any level: those are at whole numbers or halves, where levels halve.
_CUT = 0.3


class _Painting:
    """One thread at a time: rasterio silences warnings while it paints, which Python can do for all threads only."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.lock = threading.Lock()


_painting = _Painting()
if hasattr(os, "register_at_fork"):
    # A thread that paints is not there in a forked process, and never lets go.
    os.register_at_fork(after_in_child=_painting.renew)


class Polygons:
    """Polygons in the order in which they are painted, found by place; nothing of it changes once it is made.

    Args:
        geometries: (N,) shapely polygons and multi-polygons, x before y, in pixels of level 0.
        values: (N,) what each is painted with, 0 to 255.
        order: (N,) those with lower numbers lie below; among equal ones the earlier in the file.
    """

    def __init__(
        self, geometries: NDArray[np.object_], values: NDArray[np.integer], order: NDArray[Any]
    ) -> None:
        import shapely

        ranked = np.argsort(order, kind="stable")
        parts, whose = shapely.get_parts(geometries[ranked], return_index=True)
        parts, whose = _in_pieces(parts, whose)
        # Plain arrays, from which the polygons of a window are taken fastest.
        corners, rings, polygons = np.zeros((0, 2)), np.zeros(1), np.zeros(1)
        if len(parts):
            _, corners, (rings, polygons) = shapely.to_ragged_array(parts)
        self._corners = corners
        self._rings, self._polygons = rings.astype(np.int64), polygons.astype(np.int64)
        self._values = values[ranked][whose].astype(np.uint8)
        self._tree = shapely.STRtree(shapely.box(*shapely.bounds(parts).reshape(-1, 4).T))
        self.count = len(geometries)
        self.corners = len(self._corners)

    def paint(self, canvas: NDArray[np.uint8], y: float, x: float, step_y: float, step_x: float) -> None:
        """Paint what lies in a window.

        Args:
            canvas: (height, width), changed in place.
            y, x: of its top left corner at level 0.
            step_y, step_x: pixels of level 0 in one of its own.
        """
        import shapely
        from rasterio import Affine
        from rasterio.features import rasterize

        height, width = canvas.shape
        window = shapely.box(x, y, x + width * step_x, y + height * step_y)
        found = np.sort(self._tree.query(window))
        if len(found):
            shapes = [(self._as_geojson(number), int(self._values[number])) for number in found.tolist()]
            with _painting.lock:
                rasterize(shapes, out=canvas, transform=Affine(step_x, 0, x, 0, step_y, y))

    def _as_geojson(self, number: int) -> dict[str, Any]:
        first, last = self._polygons[number : number + 2]
        borders = self._rings[first : last + 1].tolist()
        corners = self._corners[borders[0] : borders[-1]].tolist()
        start = borders[0]
        rings = [corners[a - start : b - start] for a, b in itertools.pairwise(borders)]
        return {"type": "Polygon", "coordinates": rings}


class PolygonImage(LargeImage):
    """A mask drawn by polygons, of the size, place and levels of an image.

    Each level is drawn anew from the polygons, not sampled from the one above.

    Args:
        name: what it is called in messages.
        polygons: in pixels of the image.
        like: the image that it is a mask of.
        unlabelled: the number of pixels that no polygon covers; `UNKNOWN`: nothing is known about them.
    """

    def __init__(self, name: str, polygons: Polygons, like: LargeImage, unlabelled: int = UNKNOWN) -> None:
        if not 0 <= unlabelled <= UNKNOWN:
            raise ShapeError(f"class numbers of a mask drawn by polygons are 0 to 254, got {unlabelled}")
        super().__init__(
            name,
            like.level_shapes,
            1,
            np.dtype(np.uint8),
            levels=like.levels,
            microns_per_pixel=like.microns_per_pixel,
            crs=like.crs,
            transform=like.transform,
            control=like.control,
            nodata=UNKNOWN,
        )
        self.polygons = polygons
        self.unlabelled = unlabelled

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        rows, columns = self.level_shapes[level]
        step_y, step_x = self.shape[0] / rows, self.shape[1] / columns
        canvas = np.full((height, width), self.unlabelled, np.uint8)
        self.polygons.paint(canvas, y * step_y, x * step_x, step_y, step_x)
        return canvas.reshape(height, width, 1)


def _in_pieces(
    polygons: NDArray[np.object_], whose: NDArray[np.int64]
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The same area in polygons of few corners, and to which each belongs; in the order given."""
    import shapely

    many = shapely.get_num_coordinates(polygons) > _MOST_CORNERS
    if not many.any():
        return polygons, whose
    pieces: list[Any] = []
    owners: list[int] = []
    for polygon, owner, cut in zip(polygons, whose.tolist(), many.tolist(), strict=True):
        of_this = [polygon]
        if cut:
            rings = [shapely.get_coordinates(ring) for ring in (polygon.exterior, *polygon.interiors)]
            of_this = [shapely.Polygon(outer, inner) for outer, *inner in _pieces(rings)]
        pieces += of_this
        owners += [owner] * len(of_this)
    result = np.empty(len(pieces), object)
    result[:] = pieces
    return result, np.array(owners, np.int64)


def _pieces(rings: list[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """Closed rings (n, 2), cut in halves until there are few corners; each piece has the rings that reach into it.

    By Sutherland and Hodgman, ring by ring: where a ring leaves and comes back, the piece runs along the cut. That
    changes nothing of what is filled by even and odd, and asks no ring to be valid, as cuts by GEOS would.
    """
    waiting, done = [rings], []
    while waiting:
        rings = waiting.pop()
        low = np.min([ring.min(axis=0) for ring in rings], axis=0)
        sides = np.max([ring.max(axis=0) for ring in rings], axis=0) - low
        axis = int(sides.argmax())
        if sum(map(len, rings)) <= _MOST_CORNERS or sides[axis] <= _LEAST_SIDE:
            done.append(rings)
            continue
        cut = float(np.floor(low[axis] + sides[axis] / 2)) + _CUT
        for sign in (1, -1):
            part = [piece for ring in rings if len(piece := _half(ring, axis, cut, sign)) > 3]
            if part:
                waiting.append(part)
    return done


def _half(ring: NDArray[np.float64], axis: int, cut: float, sign: int) -> NDArray[np.float64]:
    """What of a closed ring lies before (`sign` 1) or behind (-1) a cut across an axis, closed along it."""
    beyond = sign * (ring[:, axis] - cut)
    inside = beyond <= 0
    leaves = inside[:-1] != inside[1:]
    with np.errstate(all="ignore"):
        share = beyond[:-1] / (beyond[:-1] - beyond[1:])
        crossing = ring[:-1] + share[:, np.newaxis] * (ring[1:] - ring[:-1])
    crossing[:, axis] = cut
    kept = np.stack([crossing, ring[1:]], axis=1)[np.stack([leaves, inside[1:]], axis=1)]
    return np.concatenate([kept, kept[:1]])
