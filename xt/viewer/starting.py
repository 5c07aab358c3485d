"""What corrections of an image start from: the objects of its labels, else those that were found."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from xt.results.outlines import outlines
from xt.results.shown import LABELS, ShownObjects, ShownRaster
from xt.viewer.corrections import Begun
from xt.viewer.drawn import Drawn, simple_parts
from xt.viewer.layers import EVERYTHING, Filters, Layer
from xt.viewer.objects import ObjectLayer
from xt.viewer.rasters import RasterLayer

_KINDS = {"point": "points", "box": "boxes", "polygon": "outlines"}
# So that an object has one id for all who have not changed it yet.
_NAMESPACE = uuid.UUID("5c1b9b7e-6f0c-4d51-9a0e-3d1f6f0d2a77")


def begun_from(layers: Iterable[Layer], kind: str, filters: Filters) -> Begun:
    """The objects of the first layer that has such, the labels before what was found.

    Args:
        kind: what is labelled: "point", "box" or "polygon"; "" where nobody knows.
        filters: what of the found objects is wanted; labels are taken whole.
    """
    ranked = sorted(layers, key=lambda layer: layer.name != LABELS)
    for layer in ranked:
        if (
            isinstance(layer, ObjectLayer)
            and layer.kind == _KINDS.get(kind)
            and layer.name in (LABELS, layer.kind)
        ):
            return Begun(objects=_of_objects(layer, kind, EVERYTHING if layer.name == LABELS else filters))
    for layer in ranked:
        if isinstance(layer, RasterLayer) and kind == "polygon" and layer.shown.meaning == "classes":
            return _of_mask(layer.shown)
    return Begun()


def _of_objects(layer: ObjectLayer, kind: str, filters: Filters) -> list[Drawn]:
    shown: ShownObjects = layer.shown
    found = []
    for row in np.flatnonzero(layer.wanted(filters)).tolist():
        known: dict[str, Any] = {} if shown.scores is None else {"score": float(shown.scores[row])}
        for part, geometry in enumerate(simple_parts(shown.geometries[row], kind)):
            found.append(
                Drawn(
                    id=_id(layer.name, row, part), kind=kind, class_name=shown.class_names[shown.labels[row]],
                    geometry=geometry, known=MappingProxyType(known),
                )
            )  # fmt: skip
    return found


def _of_mask(shown: ShownRaster) -> Begun:
    """Polygons of all classes but the one that is left clear, which then lies between them."""
    import shapely

    names: Sequence[str] = shown.class_names
    wanted = [number for number in range(len(names)) if number != shown.clear]
    drawn = [
        Drawn(
            id=_id(shown.name, row, 0), kind="polygon", class_name=names[outline.label],
            geometry=shapely.Polygon(outline.rings[0][:, ::-1], [ring[:, ::-1] for ring in outline.rings[1:]]),
        )
        for row, outline in enumerate(outlines(shown.raster, wanted))
    ]  # fmt: skip
    return Begun(objects=drawn, unlabelled="" if shown.clear is None else names[shown.clear])


def _id(layer: str, row: int, part: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{layer}/{row}/{part}"))
