"""Files of geometries as maps and drawing programs write them: GeoJSON, GeoParquet, and all that GDAL reads of vectors.

    .geojson .json .geojsonl .ndjson    read here, see `xt.labels.formats.geojson`; also .gz and .zip around one
    .parquet .geoparquet                geopandas
    .gpkg .shp .kml .fgb .gml .gdb ...  GDAL's drivers through pyogrio; curves become lines, heights are left off

A file of several layers is read only if somebody says which.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import DataWarning, TableError
from xt.labels.formats.columns import classes_of
from xt.labels.formats.geojson import read_geojson
from xt.labels.formats.suffixes import PARQUET
from xt.labels.formats.systems import Named, System, Unnamed
from xt.labels.image_table import in_short

_JSON = frozenset([".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".jsonl", ".ldjson"])
_PARQUET = frozenset([*PARQUET, ".geoparquet"])
_GDAL = frozenset(
    [
        *(".gpkg", ".shp", ".shz", ".kml", ".kmz", ".fgb", ".gml", ".gdb", ".sqlite"),
        *(".topojson", ".tab", ".mif", ".gpx", ".dxf"),
    ]
)
# In our own files "class" is the name and "label" the number.
_CLASS_COLUMNS = ("class", "label")


def is_vector_file(path: str | Path) -> bool:
    """Whether a file is one of geometries, by its name; a GeoPackage may also hold pixels, and Parquet a table."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in (".gz", ".zip"):
        # A shapefile is often sent in an archive.
        return last == ".zip" or (len(suffixes) > 1 and suffixes[-2] in _JSON)
    if last in (".gpkg", *_PARQUET) and Path(path).is_file():
        return _holds_geometries(Path(path))
    return last in _JSON | _PARQUET | _GDAL


@dataclass(frozen=True, eq=False)
class VectorFile:
    """The features of a file that lie somewhere.

    Attributes:
        source: the path, for messages.
        geometries: (N,) of shapely, in two dimensions, none of them empty.
        numbers: (N,) which of the file's features each is, from 0.
        properties: a row each.
        system: what the coordinates count.
    """

    source: str
    geometries: NDArray[np.object_]
    numbers: NDArray[np.int64]
    properties: pd.DataFrame
    system: System

    def __len__(self) -> int:
        return len(self.geometries)

    def classes(self, column: str | None) -> NDArray[np.object_]:
        """(N,) the class of each, "" where there is none.

        Args:
            column: the property of that name; without it "class", else "label", in any case of letters.
        Raises:
            TableError: there is no such property.
        """
        return class_column_of(self.properties, column, self.source)

    def kind(self, row: int) -> str:
        """What a feature is, for messages: "feature 3 (counted from 0), 'scale bar', is a LineString"."""
        name = next(
            (self.properties[key].iloc[row] for key in ("name", "Name") if key in self.properties), None
        )
        called = f", {str(name)!r}," if isinstance(name, str) and name else ""
        return f"feature {self.numbers[row]} (counted from 0){called} is a {self.geometries[row].geom_type}"

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(N,) which are a "Point" (or "Polygon"), or several of them."""
        import shapely

        wanted = [shapely.GeometryType[name.upper()] for name in (kind, f"Multi{kind}")]
        return np.isin(shapely.get_type_id(self.geometries), wanted)

    def require(self, fit: NDArray[np.bool_], expected: str) -> None:
        """Refuse features of the wrong kind.

        Raises:
            TableError: names the first, what was expected, and what to do.
        """
        if not fit.all():
            more = f" (and {int((~fit).sum()) - 1} more)" if (~fit).sum() > 1 else ""
            raise TableError(
                f"{self.source}: {self.kind(int((~fit).argmax()))}{more}, but {expected}: take it out of the file, or "
                "draw it anew"
            )


def class_column_of(frame: pd.DataFrame, column: str | None, source: str) -> NDArray[np.object_]:
    """As `VectorFile.classes`, of any table."""
    if column is None:
        lower = {str(name).lower(): name for name in reversed(frame.columns)}
        found = [name for name in _CLASS_COLUMNS if name in frame] or [
            lower[name] for name in _CLASS_COLUMNS if name in lower
        ]
        return np.full(len(frame), "", object) if not found else classes_of(frame, found[0])
    if column not in frame and len(frame):
        there = ", ".join(str(name) for name in frame.columns)
        raise TableError(f"{source} has no column {column!r} for the class; it has {there}")
    return classes_of(frame, column) if column in frame else np.full(len(frame), "", object)


def warn_of_classless(
    source: str, classes: NDArray[np.object_], numbers: NDArray[np.int64] | pd.Index, what: str
) -> NDArray[np.bool_]:
    """(N,) which objects have a class; all where none has one. Warns of those that have none while others do.

    Args:
        numbers: (N,) of the objects in their file.
        what: becomes of them.
    """
    known = np.array([bool(name) for name in classes], bool)
    if known.all() or not known.any():
        return np.ones(len(known), bool)
    lacking = np.flatnonzero(~known)
    warnings.warn(
        f"{source}: {len(lacking)} of its {len(known)} objects have no class, such as number {numbers[lacking[0]]} "
        f"(counted from 0): {what}; give them a class, or take them out of the file",
        DataWarning,
        stacklevel=2,
    )
    return known


def read_vector(path: str | Path, layer: str | None = None) -> VectorFile:
    """Read a file of geometries.

    Args:
        layer: which one, of a file that has several.
    Raises:
        TableError: the file is missing, unreadable or damaged, has several layers or lacks this one, or a geometry
            is none.
    """
    path = Path(path)
    if not path.exists():
        raise TableError(f"{path}: there is no such file of points or polygons")
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if suffix == ".gz" else suffix
    if inner in _JSON or (suffix == ".zip" and _holds_json(path)):
        features, system = read_geojson(path)
        geometries = _array([feature.geometry for feature in features])
        numbers = np.array([feature.number for feature in features], np.int64)
        properties = pd.DataFrame([dict(feature.properties) for feature in features])
        if not len(properties):
            properties = pd.DataFrame(index=range(len(features)))
    elif suffix in _PARQUET:
        geometries, numbers, properties, system = _from_parquet(path)
    else:
        geometries, numbers, properties, system = _from_gdal(path, layer)
    return _checked(VectorFile(str(path), geometries, numbers, properties, system))


def _checked(file: VectorFile) -> VectorFile:
    """In two dimensions, and every coordinate a number."""
    import shapely

    flat = _array([_without_collection(each) for each in shapely.force_2d(file.geometries)])
    whose = shapely.get_coordinates(flat, return_index=True)
    wrong = ~np.isfinite(whose[0]).all(axis=1)
    if wrong.any():
        row = int(whose[1][wrong.argmax()])
        raise TableError(f"{file.source}: {file.kind(row)} with a coordinate that is no finite number")
    return VectorFile(file.source, flat, file.numbers, file.properties, file.system)


def _without_collection(geometry: Any) -> Any:
    """A collection of points alone or polygons alone as several of them."""
    import shapely

    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = shapely.get_parts(geometry)
    while any(part.geom_type.startswith(("Multi", "Geometry")) for part in parts):
        parts = shapely.get_parts(parts)
    several = {"Point": shapely.MultiPoint, "Polygon": shapely.MultiPolygon}
    kinds = {part.geom_type for part in parts if not part.is_empty}
    return several[kinds.pop()](list(parts)) if len(kinds) == 1 and kinds <= set(several) else geometry


def _from_gdal(
    path: Path, layer: str | None
) -> tuple[NDArray[np.object_], NDArray[np.int64], pd.DataFrame, System]:
    import pyogrio
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        layer = _layer(path, layer, pyogrio.list_layers(path).tolist())
        with warnings.catch_warnings():
            # Of measured and of curved geometries, which lose nothing that matters here.
            warnings.simplefilter("ignore")
            meta, _, wkb, columns = pyogrio.raw.read(path, layer=layer)
    except (DataSourceError, DataLayerError, UnicodeDecodeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise TableError(
            f"{path} is no file of geometries that GDAL reads, or it is damaged ({reason})"
        ) from None
    wkb = np.array([], object) if wkb is None else wkb
    with np.errstate(all="ignore"):
        geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    given = np.array([value is not None for value in wkb], bool)
    strange = given & shapely.is_missing(geometries)
    if strange.any():
        raise TableError(
            f"{path}: feature {int(strange.argmax())} (counted from 0) is of a kind that has no outline in two "
            "dimensions; turn it into polygons or points"
        )
    there = given & ~shapely.is_empty(geometries)
    properties = pd.DataFrame(dict(zip(meta["fields"], columns, strict=True)), index=range(len(wkb)))
    system: System = Named(meta["crs"]) if meta["crs"] else Unnamed(degrees=False)
    return geometries[there], np.flatnonzero(there), properties[there].reset_index(drop=True), system


def _from_parquet(path: Path) -> tuple[NDArray[np.object_], NDArray[np.int64], pd.DataFrame, System]:
    import geopandas
    import shapely

    try:
        frame = geopandas.read_parquet(path)
    except (ValueError, OSError, KeyError, TypeError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise TableError(
            f"{path} is no GeoParquet file, or it is damaged ({reason}); a table of points without geometries is read "
            "as CSV"
        ) from None
    geometries = _array(list(frame.geometry.to_numpy()))
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    crs = frame.crs
    properties = pd.DataFrame(frame.drop(columns=frame.geometry.name))[there].reset_index(drop=True)
    # As text that rasterio takes, whichever of the two was made with another PROJ.
    authority = None if crs is None else crs.to_authority()
    named = (
        Unnamed(degrees=False) if crs is None else Named(":".join(authority) if authority else crs.to_wkt())
    )
    return geometries[there], np.flatnonzero(there), properties, named


def _layer(path: Path, wanted: str | None, layers: Sequence[Sequence[Any]]) -> str:
    """Which layer to read: those without geometries, as QGIS stores its styles, do not count."""
    drawn = [str(name) for name, kind in layers if kind is not None]
    if wanted is not None:
        if wanted not in drawn:
            raise TableError(f"{path} has no layer {wanted!r}; it has {in_short(drawn)}")
        return wanted
    if len(drawn) != 1:
        raise TableError(
            f"{path} has {f'the layers {in_short(drawn)}' if drawn else 'no layer with geometries'}"
            + ("; say which holds the labels: labels.layer" if drawn else "")
        )
    return drawn[0]


def _holds_geometries(path: Path) -> bool:
    import pyogrio
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema
    from pyogrio.errors import DataSourceError

    try:
        if path.suffix.lower() in _PARQUET:
            return b"geo" in (read_schema(path).metadata or {})
        return bool(len(pyogrio.list_layers(path)))
    except (DataSourceError, ArrowException, OSError, ValueError):
        return False


def _holds_json(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in (".geojson", ".json") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _array(values: Sequence[Any]) -> NDArray[np.object_]:
    result = np.empty(len(values), object)
    result[:] = values
    return result
