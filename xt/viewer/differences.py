"""What differs between labels and answers: pixels of another class, objects that were missed or are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.results.colours import Colour
from xt.results.shown import Shown, ShownObjects, ShownRaster

NAME = "difference"
# As xt evaluate counts: a box is found if it shares half of what both cover.
_OVERLAP = 0.5
_UNKNOWN = 255
_RIGHT, _EXTRA, _MISSED = (0, 158, 115), (213, 94, 0), (86, 180, 233)
_OF_OBJECTS: tuple[tuple[str, Colour], ...] = (
    ("found and labelled", _RIGHT),
    ("found, not labelled", _EXTRA),
    ("labelled, not found", _MISSED),
)


def difference(found: Sequence[Shown], labels: Sequence[Shown], reach: float) -> Shown | None:
    """Where an answer is not what the label says; None where they cannot be compared.

    Args:
        reach: of points that are one, in pixels of the image.
    """
    for label in labels:
        for answer in found:
            if isinstance(label, ShownRaster) and isinstance(answer, ShownRaster):
                if answer.meaning == "classes" and answer.raster.shape == label.raster.shape:
                    return _of_rasters(answer, label)
            elif (
                isinstance(label, ShownObjects)
                and isinstance(answer, ShownObjects)
                and label.kind == answer.kind
            ):
                return _of_objects(answer, label, reach)
    return None


def _of_rasters(found: ShownRaster, label: ShownRaster) -> ShownRaster:
    return ShownRaster(
        name=NAME,
        title="difference",
        class_names=("as labelled", "otherwise"),
        colours=(_RIGHT, _EXTRA),
        raster=_Compared(found, label),
        meaning="classes",
        clear=0,
    )


class _Compared(LargeImage):
    """1 where two masks of one size differ, 0 where they agree, missing where either says nothing."""

    def __init__(self, found: ShownRaster, label: ShownRaster) -> None:
        image, other = found.raster, label.raster
        alike = image.level_shapes == other.level_shapes
        shapes, levels = (image.level_shapes, image.levels) if alike else ([image.shape], (1.0,))
        super().__init__("difference", shapes, 1, np.dtype(np.uint8), levels=levels, nodata=_UNKNOWN)
        self._pair = (image, found.band), (other, label.band)

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        values, known = [], np.ones((height, width), bool)
        for image, band in self._pair:
            pixels, valid = image._read_level_valid(y, x, height, width, level)
            values.append(pixels[..., band])
            known &= valid[..., band] & (pixels[..., band] != _UNKNOWN)
        result = np.where(known, values[0] != values[1], _UNKNOWN).astype(np.uint8)
        return result[..., np.newaxis]


def _of_objects(found: ShownObjects, label: ShownObjects, reach: float) -> ShownObjects:
    hit_found, hit_label = (_near if found.kind == "points" else _overlapping)(found, label, reach)
    kinds = np.concatenate([np.where(hit_found, 0, 1), np.full(int((~hit_label).sum()), 2)])
    return ShownObjects(
        name=NAME,
        title="difference",
        class_names=tuple(name for name, _ in _OF_OBJECTS),
        colours=tuple(colour for _, colour in _OF_OBJECTS),
        kind=found.kind,
        geometries=np.concatenate([found.geometries, label.geometries[~hit_label]]),
        labels=kinds.astype(np.int64),
    )


Hits = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def _near(found: ShownObjects, label: ShownObjects, reach: float) -> Hits:
    """Points of one class within the reach, each for one other."""
    import shapely

    from xt.metrics.matching import match_points

    hit_found, hit_label = np.zeros(len(found), bool), np.zeros(len(label), bool)
    for number, name in enumerate(found.class_names):
        ours = np.flatnonzero(found.labels == number)
        theirs = np.flatnonzero(_classes(label) == name)
        places = [
            shapely.get_coordinates(part.geometries[rows]) for part, rows in ((found, ours), (label, theirs))
        ]
        of_found, of_label, _ = match_points(places[0], places[1], reach)
        hit_found[ours[of_found]], hit_label[theirs[of_label]] = True, True
    return hit_found, hit_label


def _overlapping(found: ShownObjects, label: ShownObjects, reach: float) -> Hits:
    """Boxes and outlines of one class that share half of what both cover; the best answers choose first."""
    import shapely

    hit_found, hit_label = np.zeros(len(found), bool), np.zeros(len(label), bool)
    if not len(found) or not len(label):
        return hit_found, hit_label
    ours, theirs = shapely.STRtree(label.geometries).query(found.geometries, predicate="intersects")
    same = _classes(found)[ours] == _classes(label)[theirs]
    ours, theirs = ours[same], theirs[same]
    shared = shapely.area(shapely.intersection(found.geometries[ours], label.geometries[theirs]))
    areas = shapely.area(found.geometries[ours]) + shapely.area(label.geometries[theirs])
    overlap = shared / np.maximum(areas - shared, 1e-9)
    scores = np.ones(len(found)) if found.scores is None else found.scores
    for pair in np.lexsort((-overlap, -scores[ours])):
        if overlap[pair] >= _OVERLAP and not hit_found[ours[pair]] and not hit_label[theirs[pair]]:
            hit_found[ours[pair]] = hit_label[theirs[pair]] = True
    return hit_found, hit_label


def _classes(shown: ShownObjects) -> NDArray[np.object_]:
    """(N,) names: numbers may mean others in labels than in answers."""
    return np.array(shown.class_names, object)[shown.labels] if len(shown) else np.array([], object)
