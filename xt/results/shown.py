"""What is shown on top of an image: rasters and objects, as plain values that know where they lie.

    files of a prediction ─ PlaceResults.shown ─► Shown ◄─ Task.shown_labels ─ labels of an image

Whoever draws them knows no task, and no task how they are drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage, open_image
from xt.images.array import ArrayImage
from xt.images.image import lengths_or_none
from xt.labels.box_table import BoxTable
from xt.labels.merge_boxes import merge_boxes
from xt.labels.merge_points import merge_points
from xt.labels.point_table import PointTable
from xt.results.colours import Colour
from xt.results.relevance import PIXEL_TAG, RelevanceMap

Merge = Callable[[NDArray[np.int64], float], NDArray[np.int64]]
"""Of the rows that are wanted those that stay, given how near two must be to be one."""
RELEVANCE, LABELS, REGIONS = "relevance", "labels", "regions"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown(ABC):
    """One layer.

    Attributes:
        name: by which it is asked for, the same in every image.
        title: for people.
        class_names: in the order of the class numbers.
        colours: one a class.
    """

    name: str
    title: str
    class_names: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()

    @abstractmethod
    def moved(self, y: float, x: float) -> Self:
        """The same, lower by `y` and farther right by `x` pixels of the image, as of a part of a larger one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownRaster(Shown):
    """Values on a raster.

    Attributes:
        raster: of which a band is shown; what is missing there is shown as nothing.
        meaning: "classes": class numbers. "share": 0 to `full` of one class, in its colour. "relevance": 1 is the
            average, and brighter is more.
        origin: (y, x) of its corner in pixels of the image.
        step: (y, x), how many pixels of the image one of its own spans.
        clear: a class number that is left clear so that the image is seen; None for none.
    """

    raster: LargeImage
    meaning: Literal["classes", "share", "relevance"]
    band: int = 0
    full: float = 1.0
    origin: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)
    clear: int | None = None

    def moved(self, y: float, x: float) -> Self:
        return replace(self, origin=(self.origin[0] + y, self.origin[1] + x))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownObjects(Shown):
    """Points, boxes or polygons.

    Attributes:
        kind: how they are drawn.
        geometries: (N,) of shapely, x before y, in pixels of the image.
        labels: (N,) class numbers.
        scores: (N,) in [0, 1]; None of what has none, such as labels.
        merge: makes one of those that are near each other; None where that cannot be.
        merged_by: what it is told, "radius" in pixels or "overlap" between 0 and 1; "" where there is no `merge`.
    """

    kind: Literal["points", "boxes", "outlines"]
    geometries: NDArray[np.object_]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None
    merge: Merge | None = None
    merged_by: Literal["", "radius", "overlap"] = ""

    def __len__(self) -> int:
        return len(self.geometries)

    def moved(self, y: float, x: float) -> Self:
        import shapely

        return replace(
            self, geometries=shapely.transform(self.geometries, lambda places: places + np.array([x, y]))
        )


def shown_points(
    points: PointTable,
    name: str,
    title: str,
    class_names: Sequence[str],
    colours: Sequence[Colour],
    *,
    found: bool,
) -> ShownObjects:
    """Points in pixels of the image.

    Args:
        found: with scores, by which nearer ones than a radius become one.
    """
    import shapely

    def merge(rows: NDArray[np.int64], radius: float) -> NDArray[np.int64]:
        some = points.select(rows)
        return rows[merge_points(some.y, some.x, some.scores, radius)]

    return ShownObjects(
        name=name,
        title=title,
        class_names=tuple(class_names),
        colours=tuple(colours),
        kind="points",
        geometries=shapely.points(points.x, points.y),
        labels=points.labels,
        scores=points.scores if found else None,
        merge=merge if found else None,
        merged_by="radius" if found else "",
    )


def shown_boxes(
    boxes: BoxTable,
    name: str,
    title: str,
    class_names: Sequence[str],
    colours: Sequence[Colour],
    *,
    found: bool,
) -> ShownObjects:
    """Boxes in pixels of the image; args as of `shown_points`, but they become one by their overlap."""
    import shapely

    def merge(rows: NDArray[np.int64], overlap: float) -> NDArray[np.int64]:
        return rows[merge_boxes(boxes.select(rows), overlap)]

    return ShownObjects(
        name=name,
        title=title,
        class_names=tuple(class_names),
        colours=tuple(colours),
        kind="boxes",
        geometries=shapely.box(boxes.x0, boxes.y0, boxes.x1, boxes.y1),
        labels=boxes.labels,
        scores=boxes.scores if found else None,
        merge=merge if found else None,
        merged_by="overlap" if found else "",
    )


def shown_polygons(
    polygons: NDArray[np.object_],
    labels: NDArray[np.int64],
    name: str,
    title: str,
    class_names: Sequence[str],
    colours: Sequence[Colour],
) -> ShownObjects:
    """Outlines: (N,) polygons of shapely in pixels of the image, x before y, with their (N,) class numbers."""
    return ShownObjects(
        name=name,
        title=title,
        class_names=tuple(class_names),
        colours=tuple(colours),
        kind="outlines",
        geometries=polygons,
        labels=labels,
    )


def shown_relevance(path: Path, image: LargeImage) -> ShownRaster:
    """A relevance map as `write_relevance` wrote it, on its image.

    Raises:
        ImageError: it cannot be opened.
    """
    raster = open_image(path)
    return ShownRaster(
        name=RELEVANCE,
        title="relevance",
        raster=raster,
        meaning="relevance",
        step=_step(raster, image),
    )


def relevance_in_memory(relevance: RelevanceMap) -> ShownRaster:
    """A relevance map that was not written."""
    return ShownRaster(
        name=RELEVANCE,
        title="relevance",
        raster=ArrayImage(relevance.values, nodata=float("nan"), name="relevance"),
        meaning="relevance",
        step=relevance.pixel_shape,
    )


def _step(raster: LargeImage, image: LargeImage) -> tuple[float, float]:
    """How many pixels of the image one of a map spans: as it says, or by where both lie; maps of before do not say."""
    said = raster.file_notes().tags.get("", {}).get(PIXEL_TAG, "").split()
    if len(said) == 2:
        return float(said[0]), float(said[1])
    if raster.transform is not None and image.transform is not None:
        return raster.transform[4] / image.transform[4], raster.transform[0] / image.transform[0]
    own, whole = lengths_or_none(raster.microns_per_pixel), lengths_or_none(image.microns_per_pixel)
    if own is not None and whole is not None:
        return own[0] / whole[0], own[1] / whole[1]
    return image.shape[0] / raster.shape[0], image.shape[1] / raster.shape[1]
