"""Points, boxes and outlines as GeoParquet and GeoPackage, read back by geopandas; they are those of the GeoJSON."""

import sqlite3

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from tests.results.places import DISK, LATLON, LOCAL, OWN, SLIDE, SOUTH_UP, TURNED, UTM, Pixels, features
from xt.errors import OutputError
from xt.labels.box_table import BoxTable
from xt.results.box_writers import write_boxes
from xt.results.dense_writers import write_outlines, write_points

NAMES = ["tree", "Busch | ä", "bog"]
READERS = {".parquet": geopandas.read_parquet, ".gpkg": geopandas.read_file}
forms = pytest.mark.parametrize("suffix", READERS)
everywhere = pytest.mark.parametrize(
    "where", [UTM, TURNED, SOUTH_UP, LATLON, OWN, LOCAL, SLIDE],
    ids=["utm", "turned", "south up", "degrees", "own", "local", "slide"],
)  # fmt: skip


def image(where: dict) -> Pixels:
    return Pixels(np.zeros((200, 50), np.uint8), **where)


def points() -> dict[str, np.ndarray]:
    return {
        "y": np.array([0.5, 20.25, 199.0]), "x": np.array([0.5, 30.75, 49.0]), "score": np.array([0.25, 0.9, 1.0]),
        "label": np.array([0.0, 1.0, 1.0]), "length": np.array([np.nan, 3.5, 0.0]),
    }  # fmt: skip


def check_system(found: geopandas.GeoDataFrame, where: dict) -> None:
    if where in (SLIDE, LOCAL):
        assert found.crs is None or found.crs.to_epsg() is None, "no place on Earth"
        return
    wanted = 4326 if where is OWN else CRS.from_string(where["crs"]).to_epsg()
    assert found.crs.to_epsg() == wanted


@forms
@everywhere
def test_points_are_those_of_the_geojson(where, suffix, tmp_path):
    path = write_points(points(), image(where), tmp_path / f"a.points{suffix}", NAMES)
    write_points(points(), image(where), tmp_path / "a.points.geojson", NAMES)
    found = READERS[suffix](path)
    assert list(found.columns) == ["class", "label", "score", "length", "geometry"]
    assert found["class"].tolist() == ["tree", "Busch | ä", "Busch | ä"]
    assert found["label"].tolist() == [0, 1, 1]
    np.testing.assert_allclose(found["score"], [0.25, 0.9, 1.0])
    np.testing.assert_array_equal(found["length"], [np.nan, 3.5, 0.0])
    same = [
        feature["geometry"]["coordinates"] for feature in features(tmp_path / "a.points.geojson")["features"]
    ]
    pixel = 1e-7 if where in (LATLON, OWN) else 1e-2
    np.testing.assert_allclose(found.geometry.get_coordinates(), same, atol=pixel, rtol=0)
    check_system(found, where)


@forms
@everywhere
def test_boxes_are_those_of_the_geojson(where, suffix, tmp_path):
    boxes = BoxTable.of([(0.0, 0.0, 12.5, 7.25), (20.0, 30.0, 60.0, 45.0)], [0, 2], scores=[0.5, 1.0])
    path = write_boxes(boxes, image(where), tmp_path / f"a.boxes{suffix}", NAMES)
    write_boxes(boxes, image(where), tmp_path / "a.boxes.geojson", NAMES)
    found = READERS[suffix](path)
    assert found["class"].tolist() == ["tree", "bog"]
    for geometry, feature in zip(
        found.geometry, features(tmp_path / "a.boxes.geojson")["features"], strict=True
    ):
        np.testing.assert_allclose(
            shapely.get_coordinates(geometry), feature["geometry"]["coordinates"][0], atol=1e-2, rtol=0
        )
    check_system(found, where)


@forms
@pytest.mark.parametrize("where", [UTM, SOUTH_UP, SLIDE], ids=["utm", "south up", "slide"])
def test_outlines_with_their_holes(where, suffix, tmp_path):
    pixels = np.zeros((200, 50), np.uint8)
    pixels[10:100, 5:45], pixels[30:50, 10:20], pixels[190:, 40:] = 1, 0, 2
    mask = Pixels(pixels, **where)
    further = tmp_path / f"a.outlines{suffix}"
    assert write_outlines(mask, tmp_path / "a.outlines.geojson", NAMES, [1, 2], further=[further]) == 2
    found = READERS[suffix](further)
    assert len(features(tmp_path / "a.outlines.geojson")["features"]) == 2
    assert sorted(found["area_px"].tolist()) == [100, 90 * 40 - 200]
    (large,) = found.geometry[found["class"] == "Busch | ä"]
    assert len(large.interiors) == 1
    assert large.is_valid
    pixel_area = 1.0 if where is SLIDE else abs(Affine(*where["transform"]).determinant)
    assert large.area == pytest.approx((90 * 40 - 200) * pixel_area)
    if where is not SLIDE:
        assert large.exterior.is_ccw, "as RFC 7946 has it, on the map"


@forms
def test_nothing_found_is_a_file_of_nothing(suffix, tmp_path):
    empty = {name: values[:0] for name, values in points().items()}
    found = READERS[suffix](write_points(empty, image(UTM), tmp_path / f"a.points{suffix}", NAMES))
    assert len(found) == 0
    assert found.crs.to_epsg() == 32618
    assert {"class", "label", "score", "length"} <= set(found.columns)
    boxes = READERS[suffix](write_boxes(BoxTable.empty(), image(SLIDE), tmp_path / f"a.boxes{suffix}", NAMES))
    assert len(boxes) == 0
    assert write_outlines(image(UTM), tmp_path / f"a.outlines{suffix}", NAMES, [1]) == 0
    assert len(READERS[suffix](tmp_path / f"a.outlines{suffix}")) == 0


@forms
def test_what_lies_nowhere_has_no_place(suffix, tmp_path):
    disk = Pixels(np.zeros((220, 220), np.uint8), **DISK)
    known = {
        "y": np.array([1.0, 110.0]),
        "x": np.array([1.0, 110.0]),
        "score": np.ones(2),
        "label": np.zeros(2),
    }
    found = READERS[suffix](write_points(known, disk, tmp_path / f"a.points{suffix}", NAMES))
    assert [geometry is None for geometry in found.geometry] == [True, False]
    boxes = BoxTable.of([(0.0, 0.0, 5.0, 5.0), (100.0, 100.0, 110.0, 110.0)], [0, 1], scores=[1.0, 1.0])
    found = READERS[suffix](write_boxes(boxes, disk, tmp_path / f"a.boxes{suffix}", NAMES))
    assert [geometry is None for geometry in found.geometry] == [True, False]


def test_a_package_s_layer_is_called_by_what_it_holds(tmp_path):
    path = write_points(points(), image(UTM), tmp_path / "scene.v1.points.gpkg", NAMES)
    with sqlite3.connect(path) as package:
        assert package.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall() == [
            ("points", "features")
        ]
        kind = package.execute("SELECT geometry_type_name FROM gpkg_geometry_columns").fetchone()
    package.close()
    assert kind == ("POINT",)


@forms
def test_a_folder_that_is_not_there(suffix, tmp_path):
    with pytest.raises(OutputError, match="none"):
        write_points(points(), image(UTM), tmp_path / "none" / f"a.points{suffix}", NAMES)
    assert list(tmp_path.iterdir()) == []
