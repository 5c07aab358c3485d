"""GeoJSON in the spellings that people have it in, read feature by feature.

A collection, a feature or a geometry alone, a list of any of these, or one a line (with or without the record separator
of RFC 8142), plain or compressed, with or without a byte order mark; with the "crs" member of the first GeoJSON (2008),
which QGIS and ogr2ogr still write. QuPath's objects are told by what only they have, see `xt.labels.formats.qupath`.
"""

import gzip
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xt.errors import DataWarning, TableError
from xt.labels.formats import qupath
from xt.labels.formats.systems import Named, Pixels, System, Unnamed
from xt.labels.formats.text_files import read_text

_GEOMETRIES = frozenset(
    ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"]
)
_SEPARATOR = "\x1e"
_EXPECTED = "expected GeoJSON: a FeatureCollection, features or geometries"


class Feature(NamedTuple):
    """A feature that lies somewhere.

    Attributes:
        number: which of the file's it is, from 0.
        geometry: a shapely geometry.
    """

    number: int
    geometry: Any
    properties: Mapping[str, Any]


def read_geojson(path: Path) -> tuple[list[Feature], System]:
    """The features of a file that lie somewhere, and what their coordinates count.

    Warns where objects of QuPath's lie in other planes than the first, which is the one that is read.

    Raises:
        TableError: there is no such file, it is no GeoJSON, a geometry is none, or its coordinate system is unclear.
    """
    values = _values(_text(path), path)
    try:
        given = list(_features(values, path))
    except RecursionError:
        raise TableError(
            f"{path} holds lists or objects within each other without end; {_EXPECTED}"
        ) from None
    found: list[Feature] = []
    elsewhere = 0
    for number, feature in enumerate(given):
        try:
            geometry = _geometry(feature.get("geometry"))
            if geometry is None or qupath.is_frame(feature):
                continue
            if qupath.plane_of(feature) != (0, 0):
                elsewhere += 1
                continue
            found.append(Feature(number, geometry, qupath.flat(feature)))
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise TableError(
                f"{path}: feature {number} (counted from 0) is no feature of GeoJSON ({_short(error)})"
            ) from None
    if elsewhere:
        warnings.warn(
            f"{path}: {elsewhere} of {len(given)} objects lie in another focal plane or time point than the first, "
            "which is the one that is read: they are left out",
            DataWarning,
            stacklevel=2,
        )
    return found, _system(values, given, path)


def _text(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".gz", ".zip") or not path.is_file():
        return read_text(path, "file of GeoJSON")
    try:
        if suffix == ".gz":
            return gzip.decompress(path.read_bytes()).decode("utf-8-sig")
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.lower().endswith((".geojson", ".json"))]
            return archive.read(name).decode("utf-8-sig")
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise TableError(f"{path} is not one compressed file of GeoJSON ({_short(error)})") from None


def _values(text: str, path: Path) -> list[Any]:
    """What the file holds: one value, or one a line."""
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        whole = error
    records = text.split(_SEPARATOR) if _SEPARATOR in text else text.split("\n")
    values = []
    for number, record in enumerate(records):
        if not record.strip():
            continue
        try:
            values.append(json.loads(record))
        except (ValueError, RecursionError) as error:
            # A file of one value that is broken breaks in its own first line.
            where = f"line {number + 1}: {_short(error)}" if values else _short(whole)
            raise TableError(f"{path} is not a readable JSON file ({where})") from None
    if not values:
        raise TableError(f"{path} is empty; {_EXPECTED}")
    return values


def _features(values: Sequence[Any], path: Path) -> Iterator[Mapping[str, Any]]:
    for value in values:
        if isinstance(value, list):
            yield from _features(value, path)
            continue
        if not isinstance(value, Mapping):
            raise TableError(f"{path} holds {json.dumps(value)[:40]}; {_EXPECTED}")
        features = value.get("features")
        if isinstance(features, list):
            yield from _features(features, path)
        elif str(value.get("type")) in _GEOMETRIES:
            yield {"geometry": value, "properties": {}}
        elif "geometry" in value or value.get("type") == "Feature":
            yield from qupath.with_children(value)
        else:
            what = (
                f"a {str(value['type'])[:40]!r}"
                if "type" in value
                else f"an object of {', '.join(list(value)[:4]) or 'nothing'}"
            )
            raise TableError(f"{path} holds {what}; {_EXPECTED}")


def _geometry(value: Any) -> Any:
    """A shapely geometry; None where a feature lies nowhere, which QuPath writes as {}."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    if not value:
        return None
    if value["type"] not in _GEOMETRIES:
        raise ValueError(f"{value['type']!r} is no kind of geometry")
    if value["type"] == "GeometryCollection" and "geometries" not in value:
        raise ValueError("a GeometryCollection without geometries")
    try:
        geometry = shape(value)
    except ShapelyError as error:
        raise ValueError(str(error)) from None
    return None if geometry.is_empty else geometry


def _system(values: Sequence[Any], features: Sequence[Mapping[str, Any]], path: Path) -> System:
    if any(qupath.is_object(feature) for feature in features):
        return Pixels(qupath=True)
    named = {
        _name(value["crs"], path)
        for value in values
        if isinstance(value, Mapping) and value.get("crs") is not None
    }
    if len(named) > 1:
        raise TableError(
            f"{path} names several coordinate systems: {', '.join(sorted(named))}; give one file to each"
        )
    return Named(named.pop()) if named else Unnamed(degrees=True)


def _name(crs: Any, path: Path) -> str:
    """The name that a "crs" member gives."""
    if isinstance(crs, str) and crs:
        return crs
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    if isinstance(properties, Mapping):
        name, code, link = properties.get("name"), properties.get("code"), properties.get("href")
        if isinstance(name, str) and name:
            return name
        if isinstance(code, int | str) and str(code).strip():
            code = str(code).strip()
            return code if ":" in code else f"EPSG:{code}"
        if link:
            if "opengis.net/" in str(link):
                return str(link)
            raise TableError(
                f"{path} says where its coordinate system is described ({link}) and not which it is; links are not "
                'followed: write its EPSG code, as "crs": {"type": "name", "properties": {"name": '
                '"urn:ogc:def:crs:EPSG::4326"}}'
            )
    raise TableError(
        f"{path} has a 'crs' member that names no coordinate system ({json.dumps(crs)[:80]}); expected "
        '{"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}'
    )


def _short(error: Exception) -> str:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(what.split())[:160] or type(error).__name__
