"""Masks, probabilities and relevance maps as layers: of each pixel of a tile the value that lies under its centre."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.results.overlay import colour_limit, relevance_colours
from xt.results.shown import ShownRaster
from xt.viewer.layers import EVERYTHING, Filters, Layer, Window

# What is read of a raster at a time.
_BYTES = 16 * 2**20
_LIMIT_FROM = 2048


class RasterLayer(Layer):
    """A raster, however its pixels lie on those of the image."""

    kind = "raster"

    def __init__(self, shown: ShownRaster) -> None:
        super().__init__()
        self.shown = shown
        self.name, self.title = shown.name, shown.title
        self.class_names, self.colours = shown.class_names, shown.colours
        self._colour = {"classes": self._classes, "share": self._share, "relevance": self._relevance}[
            shown.meaning
        ]

    def draw(self, window: Window, filters: Filters) -> NDArray[np.uint8] | None:
        values, valid = self._sample(window)
        if not valid.any():
            return None
        colours = self._colour(values, filters)
        colours[~valid] = 0
        return colours

    def at(self, y: float, x: float, filters: Filters, reach: float) -> dict[str, Any] | None:
        values, valid = self._sample(Window(y, x, 0.0, 1))
        if not valid[0, 0]:
            return None
        value = values[0, 0].item()
        if self.shown.meaning == "classes":
            known = 0 <= value < len(self.class_names)
            return {"label": value, "class": self.class_names[value] if known else str(value)}
        if self.shown.meaning == "share":
            return {"class": self.class_names[0], "share": value / self.shown.full}
        return {"relevance": value}

    def legend(self, filters: Filters = EVERYTHING) -> dict[str, Any]:
        told = super().legend(filters) | {"meaning": self.shown.meaning}
        return told | ({"top": self._top} if self.shown.meaning == "relevance" else {})

    def _sample(self, window: Window) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """(side, side) values and which are data."""
        raster, step = self.shown.raster, self.shown.step
        wanted = max(window.step / max(step), 1.0)
        level = max(number for number, factor in enumerate(raster.levels) if factor <= wanted * 1.01)
        places = []
        for corner, origin, side, whole, low in zip(
            (window.y, window.x),
            self.shown.origin,
            step,
            raster.shape,
            raster.level_shapes[level],
            strict=True,
        ):
            centres = corner + (np.arange(window.side) + 0.5) * window.step - origin
            places.append(np.floor(centres / side * (low / whole)).astype(np.int64))
        rows, columns = places
        height, width = raster.level_shapes[level]
        values = np.zeros((window.side, window.side), raster.dtype)
        valid = np.zeros((window.side, window.side), bool)
        in_rows = np.flatnonzero((rows >= 0) & (rows < height))
        in_columns = np.flatnonzero((columns >= 0) & (columns < width))
        if not len(in_rows) or not len(in_columns):
            return values, valid
        left, right = int(columns[in_columns[0]]), int(columns[in_columns[-1]]) + 1
        for some in self._strips(rows, in_rows, right - left):
            top, bottom = int(rows[some[0]]), int(rows[some[-1]]) + 1
            read, there = _read(raster, top, left, bottom - top, right - left, level)
            picked = np.ix_(rows[some] - top, columns[in_columns] - left)
            place = np.ix_(some, in_columns)
            values[place] = read[..., self.shown.band][picked]
            valid[place] = there[..., self.shown.band][picked]
        return values, valid

    def _strips(
        self, rows: NDArray[np.int64], inside: NDArray[np.intp], width: int
    ) -> list[NDArray[np.intp]]:
        """Rows of the tile that are read together; of a raster without coarser levels they lie far apart."""
        raster = self.shown.raster
        most = max(1, _BYTES // (width * raster.channels * (raster.dtype.itemsize + 1)))
        span = int(rows[inside[-1]] - rows[inside[0]]) + 1
        return [part for part in np.array_split(inside, -(-span // most)) if len(part)]

    def _classes(self, values: np.ndarray, filters: Filters) -> NDArray[np.uint8]:
        table = np.zeros((256, 4), np.uint8)
        for number, colour in enumerate(self.colours):
            if number != self.shown.clear and (filters.classes is None or number in filters.classes):
                table[number] = (*colour, 255)
        if (
            self.shown.clear is not None
            and filters.classes is not None
            and self.shown.clear in filters.classes
        ):
            # Who asks for it by number wants to see it.
            table[self.shown.clear] = (*self.colours[self.shown.clear], 255)
        return table[np.clip(values, 0, 255).astype(np.uint8)]

    def _share(self, values: np.ndarray, filters: Filters) -> NDArray[np.uint8]:
        share = np.clip(values / self.shown.full, 0, 1)
        colours = np.empty((*values.shape, 4), np.uint8)
        colours[..., :3] = self.colours[0]
        colours[..., 3] = np.where(share >= filters.least_score, np.rint(255 * share), 0)
        return colours

    def _relevance(self, values: np.ndarray, filters: Filters) -> NDArray[np.uint8]:
        return np.rint(255 * relevance_colours(values, self._top)).astype(np.uint8)

    @cached_property
    def _top(self) -> float:
        """What the brightest colour means: of all of the map, as in the pictures that `xt predict` writes."""
        raster = self.shown.raster
        rows = min(raster.shape[0], _LIMIT_FROM)
        return colour_limit(raster.read(0, 0, rows, min(raster.shape[1], _LIMIT_FROM))[..., 0])[0]


def _read(
    raster: Any, y: int, x: int, height: int, width: int, level: int
) -> tuple[np.ndarray, NDArray[np.bool_]]:
    """A window in pixels of the level."""
    low = raster if level == 0 else raster.at_level(level)
    pixels, valid = low.read_valid(y, x, height, width)
    return pixels, valid
