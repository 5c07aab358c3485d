"""Points, boxes and polygons as layers, found by place in an index and drawn by tile, however many there are."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xt.results.shown import ShownObjects
from xt.viewer.layers import EVERYTHING, Filters, Layer, Window

# In pixels of a tile.
_RADIUS, _DOT = 5, 1
_LINE = 2
# Smoother edges: drawn at twice the size.
_FINER = 2
# Where there are more in a tile all of its zoom are dots, which are set all at once.
_MOST_DRAWN = 1500
# What is smaller than this has no outline that could be seen.
_LEAST_SIDE = 3.0
_MOST_FILTERS = 16


class ObjectLayer(Layer):
    """Objects of one image with an index over all of them; filters choose among what it finds."""

    def __init__(self, shown: ShownObjects) -> None:
        super().__init__()
        self.shown = shown
        self.name, self.title, self.kind = shown.name, shown.title, shown.kind
        self.class_names, self.colours = shown.class_names, shown.colours
        self._lock = threading.Lock()
        self._wanted: LRUCache[Filters, NDArray[np.bool_]] = LRUCache(_MOST_FILTERS)
        self._dotted: LRUCache[tuple[Filters, float], bool] = LRUCache(8 * _MOST_FILTERS)

    def draw(self, window: Window, filters: Filters) -> NDArray[np.uint8] | None:
        # What lies just beside a tile reaches into it.
        rows = self.rows(window, filters, margin=(_RADIUS + _LINE) * window.step)
        if not len(rows):
            return None
        if self.kind == "points":
            are_dots = np.full(len(rows), self._are_dots(window, filters))
        else:
            are_dots = self._sides[rows] < _LEAST_SIDE * window.step
        dots, drawn = rows[are_dots], rows[~are_dots]
        canvas = np.zeros((window.side, window.side, 4), np.uint8)
        self._set_dots(canvas, dots, window)
        return self._drawn(canvas, drawn, window) if len(drawn) else canvas

    def at(self, y: float, x: float, filters: Filters, reach: float) -> dict[str, Any] | None:
        import shapely

        rows = self.rows(Window(y - reach, x - reach, 2 * reach, 1), filters)
        if not len(rows):
            return None
        distances = shapely.distance(self.shown.geometries[rows], shapely.Point(x, y))
        # Of several that lie over each other the smallest: the others can be seen elsewhere.
        near = np.lexsort((self._sides[rows], distances))[0]
        return self.told(int(rows[near])) if distances[near] <= reach else None

    def told(self, row: int) -> dict[str, Any]:
        """One object, fit for JSON: `place` is (y, x) of its middle, `box` its y0, x0, y1, x1."""
        scores, label = self.shown.scores, int(self.shown.labels[row])
        x0, y0, x1, y1 = (float(value) for value in self._bounds[row])
        return {
            "object": row,
            "label": label,
            "class": self.class_names[label],
            "score": None if scores is None else float(scores[row]),
            "place": [(y0 + y1) / 2, (x0 + x1) / 2],
            "box": [y0, x0, y1, x1],
        }

    def counts(self, filters: Filters) -> list[int]:
        labels = self.shown.labels[self.wanted(filters)]
        return [int(count) for count in np.bincount(labels, minlength=len(self.class_names))]

    def legend(self, filters: Filters = EVERYTHING) -> dict[str, Any]:
        scores = self.shown.scores
        least = None if scores is None or not len(scores) else float(scores.min())
        return super().legend(filters) | {"least_score": least, "merged_by": self.shown.merged_by}

    def wanted(self, filters: Filters) -> NDArray[np.bool_]:
        """(N,) which objects are shown; computed once for each choice of filters."""
        with self._lock:
            found = self._wanted.get(filters)
            if found is None:
                found = self._wanted[filters] = self._choose(filters)
            return found

    def rows(self, window: Window, filters: Filters, margin: float = 0.0) -> NDArray[np.int64]:
        """Of the objects that touch a window those that are shown, in their own order.

        Args:
            margin: around the window, in level-0 pixels.
        """
        import shapely

        side = window.side * window.step
        box = shapely.box(
            window.x - margin, window.y - margin, window.x + side + margin, window.y + side + margin
        )
        rows = np.sort(self._tree.query(box))
        return rows[self.wanted(filters)[rows]]

    def _choose(self, filters: Filters) -> NDArray[np.bool_]:
        shown = self.shown
        wanted = np.ones(len(shown), bool)
        if filters.classes is not None:
            wanted &= np.isin(shown.labels, list(filters.classes))
        if shown.scores is not None:
            wanted &= shown.scores >= filters.least_score
        if filters.merge is not None and shown.merge is not None:
            stay = shown.merge(np.flatnonzero(wanted), filters.merge)
            wanted = np.zeros(len(shown), bool)
            wanted[stay] = True
        return wanted

    def _are_dots(self, window: Window, filters: Filters) -> bool:
        """Whether points are drawn as dots: in all tiles of a zoom or in none, by the fullest."""
        wanted = self.wanted(filters)
        if np.count_nonzero(wanted) <= _MOST_DRAWN:
            return False
        key = filters, window.step
        with self._lock:
            known = self._dotted.get(key)
        if known is None:
            cells = np.floor(self._bounds[wanted][:, :2] / (window.side * window.step)).astype(np.int64)
            known = bool(np.unique(cells, axis=0, return_counts=True)[1].max() > _MOST_DRAWN)
            with self._lock:
                self._dotted[key] = known
        return known

    @cached_property
    def _tree(self) -> Any:
        import shapely

        return shapely.STRtree(self.shown.geometries)

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        """(N, 4) x0, y0, x1, y1."""
        import shapely

        bounds: NDArray[np.float64] = shapely.bounds(self.shown.geometries).reshape(-1, 4)
        return bounds

    @cached_property
    def _sides(self) -> NDArray[np.float64]:
        """(N,) the longer side of each."""
        bounds = self._bounds
        return np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])

    @cached_property
    def _rgba(self) -> NDArray[np.uint8]:
        return np.array([(*colour, 255) for colour in self.colours], np.uint8).reshape(-1, 4)

    def _set_dots(self, canvas: NDArray[np.uint8], rows: NDArray[np.int64], window: Window) -> None:
        bounds = self._bounds[rows]
        y = ((bounds[:, 1] + bounds[:, 3]) / 2 - window.y) / window.step
        x = ((bounds[:, 0] + bounds[:, 2]) / 2 - window.x) / window.step
        colours = self._rgba[self.shown.labels[rows]]
        for down in range(-_DOT, _DOT + 1):
            for across in range(-_DOT, _DOT + 1):
                row, column = np.floor(y).astype(int) + down, np.floor(x).astype(int) + across
                inside = (row >= 0) & (row < window.side) & (column >= 0) & (column < window.side)
                canvas[row[inside], column[inside]] = colours[inside]

    def _drawn(self, canvas: NDArray[np.uint8], rows: NDArray[np.int64], window: Window) -> NDArray[np.uint8]:
        import shapely

        large = Image.fromarray(canvas).resize((window.side * _FINER,) * 2, Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(large)
        scale = _FINER / window.step
        labels = self.shown.labels[rows]
        if self.kind == "points":
            for (x0, y0, _, _), label in zip(self._bounds[rows], labels, strict=True):
                x, y, radius = (x0 - window.x) * scale, (y0 - window.y) * scale, _RADIUS * _FINER
                draw.ellipse(
                    (x - radius, y - radius, x + radius, y + radius),
                    outline=tuple(self._rgba[label].tolist()),
                    width=_LINE * _FINER,
                )
        else:
            # Corners far outside of a tile would be drawn at great cost, and not be seen.
            side, margin = window.side * window.step, 2 * _LINE * window.step
            edges = window.x - margin, window.y - margin, window.x + side + margin, window.y + side + margin
            rings = shapely.clip_by_rect(shapely.boundary(self.shown.geometries[rows]), *edges)
            rings = shapely.simplify(rings, window.step / 4, preserve_topology=False)
            parts, whose = shapely.get_parts(rings, return_index=True)
            for part, row in zip(parts, whose, strict=True):
                corners = (shapely.get_coordinates(part) - (window.x, window.y)) * scale
                if len(corners) > 1:
                    draw.line(
                        corners.ravel().tolist(),
                        fill=tuple(self._rgba[labels[row]].tolist()),
                        width=_LINE * _FINER,
                    )
        return np.asarray(large.reduce(_FINER))
