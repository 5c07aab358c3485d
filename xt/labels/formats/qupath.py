"""QuPath's objects in GeoJSON: how its versions since 0.2 write a class, measurements and the kind of an object.

Source: `PathObjectTypeAdapter` and its neighbours in QuPath's own reader.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_KINDS = ("objectType", "object_type")
# Version 0.2 said the kind where GeoJSON has a feature's identifier.
_OLD_KINDS = frozenset(
    f"{kind}Object"
    for kind in ("PathAnnotation", "PathCell", "PathDetection", "PathRoot", "PathTile", "TMACore")
)
_NEW_KINDS = frozenset(
    ["annotation", "cell", "detection", "root", "tile", "tmacore", "tma_core", "tma core", "unknown"]
)
_FRAMES = frozenset(["root", "tmacore", "tma_core", "pathrootobject", "tmacoreobject"])
_CHILDREN = ("childObjects", "children")
_JOINT = ": "


def is_object(feature: Mapping[str, Any]) -> bool:
    """Whether a feature is an object of QuPath's, whose coordinates are pixels."""
    properties = _properties(feature)
    if isinstance(properties.get("classification"), Mapping):
        return True
    # Maps, too, have columns of these names, whose objects are ships or buildings.
    kinds = [str(properties.get(key)) for key in _KINDS]
    return str(feature.get("id")) in _OLD_KINDS or any(
        kind in _OLD_KINDS or kind.lower() in _NEW_KINDS for kind in kinds
    )


def _properties(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def is_frame(feature: Mapping[str, Any]) -> bool:
    """Whether an object is the slide itself or a core of a tissue array, which nobody draws as a label."""
    properties = _properties(feature)
    kind = next((properties[key] for key in _KINDS if properties.get(key)), feature.get("id"))
    return str(kind).lower() in _FRAMES and not properties.get("classification")


def with_children(feature: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """An object and those below it, as they are exported together with their hierarchy."""
    yield feature
    for key in _CHILDREN:
        children = _properties(feature).get(key)
        for child in children if isinstance(children, list) else ():
            if isinstance(child, Mapping) and "geometry" in child:
                yield from with_children(child)


def plane_of(feature: Mapping[str, Any]) -> tuple[int, int]:
    """(z, t): the focal plane and the time point that an object lies in."""
    plane = (feature.get("geometry") or {}).get("plane") or {}
    return int(plane.get("z") or 0), int(plane.get("t") or 0)


def flat(feature: Mapping[str, Any]) -> dict[str, Any]:
    """An object's properties with its class as "class" and a measurement each a property of its own."""
    given = feature.get("properties") or {}
    result = {key: value for key, value in given.items() if key not in _CHILDREN}
    if is_object(feature) and "classification" in given:
        result.setdefault("class", class_of(result.pop("classification")))
    measurements = result.pop("measurements", None)
    if isinstance(measurements, Mapping):
        return {**measurements, **result}
    if isinstance(measurements, list):
        # Before version 0.4.
        return {**{each["name"]: each["value"] for each in measurements}, **result}
    return result


def class_of(classification: Any) -> Any:
    """The name that QuPath shows: of a derived class all names from the outermost, "Tumor: Positive"; None without one.

    It is a text, a list of them, {"name": ...}, {"names": [...]}, or, before version 0.4, {"name": ..., "parentClass":
    {...}}.
    """
    if isinstance(classification, list):
        return _JOINT.join(map(str, classification))
    if not isinstance(classification, Mapping):
        return classification
    names = classification.get("names")
    if isinstance(names, list) and names:
        return _JOINT.join(map(str, names))
    name, parent = classification.get("name") or names or None, class_of(classification.get("parentClass"))
    return name if not parent else f"{parent}{_JOINT}{name}"
