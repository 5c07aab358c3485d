"""Points, boxes and outlines as the files that people ask for, each by its suffix.

GeoJSON is written feature by feature (`xt.results.geojson`). GeoParquet and GeoPackage are tables with a column of
geometries in the image's own coordinate system, put together in memory by geopandas: a point takes about 100 bytes
there, an outline a kilobyte. Slides and photos have no system; their coordinates are pixels, y pointing down.
"""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xt.output import write_atomically
from xt.results.colours import Colour
from xt.results.coordinates import Place
from xt.results.geojson import Features, box_rings, feature_collection, outline_rings
from xt.results.outlines import Outline

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

SUFFIXES = {"geoparquet": ".parquet", "gpkg": ".gpkg"}
"""Of the forms besides GeoJSON."""


@contextmanager
def features_to(
    destination: str | os.PathLike[str], place: Place, class_names: Sequence[str], colours: Sequence[Colour]
) -> Iterator[Features]:
    """A file to add features to, of the form that its suffix says; it is there, wholly, when the block ends well.

    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    path = Path(destination)
    if path.suffix not in SUFFIXES.values():
        with feature_collection(path, place, class_names, colours) as features:
            yield features
        return
    table = FeatureTable(place, class_names)
    yield table
    content = io.BytesIO()
    if path.suffix == SUFFIXES["geoparquet"]:
        table.frame().to_parquet(content, index=False, compression="zstd")
    else:
        _write_package(table, content, layer=path.stem.rpartition(".")[2])
    write_atomically(path, content.getvalue())


def _write_package(table: "FeatureTable", content: io.BytesIO, layer: str) -> None:
    import pyogrio

    with warnings.catch_warnings():
        # Of a slide's pixels, which lie nowhere on Earth.
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.write_dataframe(
            table.frame(), content, driver="GPKG", layer=layer, geometry_type=table.geometry_type
        )


class FeatureTable(Features):
    """A table that grows; made by `features_to`."""

    def __init__(self, place: Place, class_names: Sequence[str]) -> None:
        self._place = place
        self._names = np.array(class_names, dtype=object)
        self._geometries: list[NDArray[Any]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self.geometry_type = "Polygon"

    @property
    def count(self) -> int:
        return sum(map(len, self._labels))

    def add_points(
        self,
        y: NDArray[np.floating],
        x: NDArray[np.floating],
        labels: NDArray[Any],
        numbers: Mapping[str, NDArray[np.floating]],
    ) -> None:
        import shapely

        self.geometry_type = "Point"
        places = self._place.coordinates(y, x)
        there: NDArray[np.bool_] = np.asarray(np.isfinite(places).all(axis=1))
        self._add(shapely.points(places), there, labels, numbers)

    def add_boxes(
        self, edges: NDArray[np.float64], labels: NDArray[Any], numbers: Mapping[str, NDArray[np.floating]]
    ) -> None:
        import shapely

        y, x = box_rings(edges, self._place)
        rings = self._place.coordinates(y.ravel(), x.ravel()).reshape(*y.shape, 2)
        there: NDArray[np.bool_] = np.asarray(np.isfinite(rings).all(axis=(1, 2)))
        # shapely refuses corners that are nowhere.
        polygons = shapely.polygons(np.where(there[:, None, None], rings, 0.0))
        self._add(polygons, there, labels, numbers)

    def add_outline(self, outline: Outline) -> None:
        import shapely

        rings = [
            self._place.coordinates(ring[:, 0], ring[:, 1]) for ring in outline_rings(outline, self._place)
        ]
        is_there = all(np.isfinite(ring).all() for ring in rings)
        polygon = shapely.Polygon(rings[0], rings[1:]) if is_there else None
        numbers = {"area_px": np.array([outline.area], np.int64)}
        self._add(np.array([polygon], object), np.array([is_there]), np.array([outline.label]), numbers)

    def _add(
        self,
        geometries: NDArray[Any],
        there: NDArray[np.bool_],
        labels: NDArray[Any],
        numbers: Mapping[str, NDArray[Any]],
    ) -> None:
        found = np.asarray(geometries, dtype=object).copy()
        found[~there] = None
        self._geometries.append(found)
        self._labels.append(labels.astype(np.int64))
        for name, values in numbers.items():
            self._numbers.setdefault(name, []).append(np.asarray(values))

    def frame(self) -> "GeoDataFrame":
        """A row a feature: class, label, numbers and geometry, None where that lies nowhere."""
        import geopandas

        labels = np.concatenate([np.zeros(0, np.int64), *self._labels])
        columns = {name: np.concatenate(values) for name, values in self._numbers.items()}
        geometries = np.concatenate([np.zeros(0, object), *self._geometries])
        known = {"class": self._names[labels], "label": labels, **columns}
        return geopandas.GeoDataFrame(known, geometry=geopandas.GeoSeries(geometries), crs=self._place.system)
