"""Points from files of geometries: every spelling of GeoJSON, GDAL's formats, GeoParquet, and what is refused."""

import gzip
import json
import warnings
import zipfile

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import shapely
from rasterio.warp import transform

from tests.labels.formats.test_point_files import NAMES, PLAIN, UTM, MapImage
from xt.errors import DataWarning, TableError
from xt.labels.formats.point_files import read_points
from xt.labels.formats.vector_files import is_vector_file, read_vector

EAST, NORTH = UTM[2] + 0.5 * 20, UTM[5] - 0.5 * 10
"""On the map, the corner of pixel y=10, x=20."""
(LONGITUDE,), (LATITUDE,) = transform("EPSG:32616", "EPSG:4326", [EAST], [NORTH])
IMAGE = MapImage(UTM)


def point(x=LONGITUDE, y=LATITUDE, **properties):
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}, "properties": properties}


def collection(*features, **members):
    return {"type": "FeatureCollection", "features": list(features), **members}


def found(path, image=IMAGE, names=("point",), **options):
    points = read_points(path, **options).on(image, names)
    return np.stack([points.y, points.x], axis=1).round(3).tolist()


SPELLINGS = {
    "collection": json.dumps(collection(point())),
    "without a type": json.dumps({"features": [point()]}),
    "feature": json.dumps(point()),
    "geometry": json.dumps(point()["geometry"]),
    "list of features": json.dumps([point()]),
    "list of geometries": json.dumps([point()["geometry"]]),
    "list of collections": json.dumps([collection(point())]),
    "a line each": json.dumps(point()) + "\n" + json.dumps(point()) + "\r\n\n",
    "text sequence": "\x1e" + json.dumps(point(), indent=1) + "\n\x1e" + json.dumps(point()) + "\n",
    "geometry collection": json.dumps({"type": "GeometryCollection", "geometries": [point()["geometry"]]}),
    "nested collection": json.dumps(
        {
            "type": "Feature",
            "properties": None,
            "geometry": {
                "type": "GeometryCollection",
                "geometries": [{"type": "MultiPoint", "coordinates": [[LONGITUDE, LATITUDE]]}],
            },
        }
    ),
    "with heights": json.dumps(
        {"type": "MultiPoint", "coordinates": [[LONGITUDE, LATITUDE, 3.5], [LONGITUDE, LATITUDE, 7]]}
    ),
    "with nothing beside it": json.dumps(
        collection(
            point(),
            {"type": "Feature", "geometry": None, "properties": None},
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": {}},
        )
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_spellings_of_geojson(tmp_path, spelling, encoding):
    path = tmp_path / "a.geojson"
    path.write_bytes(SPELLINGS[spelling].encode(encoding))
    assert set(map(tuple, found(path))) == {(10, 20)}


@pytest.mark.parametrize("name", ["a.json", "a.GeoJSON", "a.geojsonl", "a.ndjson", "a.geojson.gz", "a.zip"])
def test_names_of_geojson(tmp_path, name):
    path = tmp_path / name
    text = json.dumps(point())
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside/a.geojson", "\ufeff" + text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert is_vector_file(path)
    assert found(path) == [[10, 20]]


def test_collections_of_nothing_hold_nothing(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection()))
    assert found(path) == []
    assert found(path, names=NAMES) == []


@pytest.mark.parametrize(
    "crs",
    [
        {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32616"}},
        {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG:9.8.6:32616"}},
        {"type": "name", "properties": {"name": "EPSG:32616"}},
        {"type": "name", "properties": {"name": "epsg:32616"}},
        {"type": "name", "properties": {"name": "EPSG::32616"}},
        {"type": "name", "properties": {"name": "http://www.opengis.net/def/crs/EPSG/0/32616"}},
        {"properties": {"name": "EPSG:32616"}},
        {"type": "EPSG", "properties": {"code": 32616}},
        {"type": "EPSG", "properties": {"code": "32616"}},
        {"type": "EPSG", "properties": {"code": "EPSG:32616"}},
        {"type": "link", "properties": {"href": "http://www.opengis.net/def/crs/EPSG/0/32616"}},
        "EPSG:32616",
    ],
)
def test_old_names_of_the_coordinate_system(tmp_path, crs):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(point(EAST, NORTH), crs=crs)))
    assert found(path) == [[10, 20]]
    path.write_text(json.dumps({**point(EAST, NORTH)["geometry"], "crs": crs}))
    assert found(path) == [[10, 20]]


@pytest.mark.parametrize(
    "name",
    [
        "urn:ogc:def:crs:OGC:1.3:CRS84",
        "urn:ogc:def:crs:EPSG::4326",
        "EPSG:4326",
        "CRS84",
        "OGC:CRS84",
        "WGS84",
    ],
)
def test_degrees_are_longitude_before_latitude(tmp_path, name):
    """Whatever order the authority has for them: so GeoJSON has it, and every program writes it."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(point(), crs={"type": "name", "properties": {"name": name}})))
    assert found(path) == [[10, 20]]
    path.write_text(json.dumps(collection(point(), crs=None)))
    assert found(path) == [[10, 20]]


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        (
            {
                "type": "link",
                "properties": {"href": "http://spatialreference.org/ref/epsg/4326/", "type": "proj4"},
            },
            r"a\.geojson says where its coordinate system is described \(http://spatialreference\.org/ref/epsg/4326/\)",
        ),
        ({"type": "link", "properties": {"href": "crs.wkt"}}, r"links are not followed: write its EPSG code"),
        (
            {"type": "name"},
            r"a\.geojson has a 'crs' member that names no coordinate system \(\{\"type\": \"name\"\}\)",
        ),
        ({"type": "name", "properties": {"name": 5}}, "names no coordinate system"),
        (["EPSG:4326"], "names no coordinate system"),
        (7, "names no coordinate system"),
        (
            {"type": "EPSG", "properties": {"code": 999999}},
            r"coordinate system 'EPSG:999999', which is unknown; write",
        ),
        (
            {"type": "name", "properties": {"name": "https://example.com/epsg/4326"}},
            "which is unknown; write its EPSG",
        ),
    ],
)
def test_coordinate_systems_that_cannot_be_told(tmp_path, crs, message):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(point(), crs=crs)))
    with pytest.raises(TableError, match=message):
        read_points(path).on(IMAGE, ("point",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", r"a\.json holds 1; expected GeoJSON"),
        ('{"images": [], "annotations": []}', r"a\.json holds an object of images, annotations; expected GeoJSON"),
        ('{"type": "Topology", "objects": {}}', r"a\.json holds a 'Topology'; expected GeoJSON"),
        ("", r"a\.json is empty; expected GeoJSON"),
        ('{"type": "Feature", "geometry": {"type": "Point"}}', r"feature 0 \(counted from 0\) is no feature"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": 5}}', "feature 0 .* is no feature"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [null, 1]}}', "feature 0 .* is no feature"),
        ('{"type": "Feature", "geometry": {"type": "Circle", "coordinates": [1]}}', "'Circle' is no kind of geometry"),
        ('{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}', "0 .* is no"),
        ('{"type": "Feature", "geometry": {"type": ["Point"], "coordinates": [1, 2]}}', "feature 0 .* is no feature"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": 5}', "no feature"),
        ('{"type": "Point", "coordinates": [NaN, 2]}', r"feature 0 .* is a Point with a coordinate that is no finite"),
        ('{"type": "Point", "coordinates": [1e999, 2]}', "a coordinate that is no finite number"),
        ('{"type": "Point", "coordinates": [1, 2]}\n{"type": "Point"', r"not a readable JSON file \(line 2"),
        ("[" * 100_000, "is not a readable JSON file"),
    ],
)  # fmt: skip
def test_what_is_no_geojson(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(TableError, match=message):
        read_points(path)


def frame(crs=32616, **columns):
    there = transform("EPSG:32616", f"EPSG:{crs}", [EAST, EAST + 5], [NORTH, NORTH])
    return geopandas.GeoDataFrame(columns, geometry=geopandas.points_from_xy(*there, [1.0, 2.0]), crs=crs)


@pytest.mark.parametrize(
    "name", ["a.gpkg", "a.shp", "a.fgb", "a.kml", "a.parquet", "a.geoparquet", "a.gml", "a.shp.zip"]
)
@pytest.mark.parametrize("crs", [32616, 4326, 3857])
def test_formats(tmp_path, name, crs):
    if name == "a.kml" and crs != 4326:
        pytest.skip("KML is in degrees")
    path = tmp_path / name
    table = frame(crs, label=["cat", "dog"])
    table.to_parquet(path) if "parquet" in name else table.to_file(path)
    assert is_vector_file(path)
    points = read_points(path).on(IMAGE, NAMES)
    # FlatGeobuf stores what lies together beside each other, whatever came first.
    order = np.argsort(points.x)
    np.testing.assert_allclose(np.stack([points.y, points.x])[:, order], [[10, 10], [20, 30]], atol=2e-3)
    assert points.labels[order].tolist() == [0, 1]


def test_the_case_of_a_column_s_name_does_not_matter(tmp_path):
    """Many programs write a shapefile's in capitals."""
    path = tmp_path / "a.shp"
    frame(CLASS=["cat", "dog"], LABEL=[0, 1]).to_file(path)
    assert read_points(path).classes.tolist() == ["cat", "dog"]
    assert read_points(path, class_column="LABEL").classes.tolist() == ["0", "1"]
    with pytest.raises(TableError, match=r"a\.shp has no column 'kind' for the class; it has CLASS, LABEL"):
        read_points(path, class_column="kind")


def test_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    frame().to_file(path, layer="trees")
    assert found(path) == [[10, 20], [10, 30]]
    # As QGIS stores a layer's look beside it.
    pyogrio.write_dataframe(pandas.DataFrame({"styleName": ["a"]}), path, layer="layer_styles")
    assert found(path) == [[10, 20], [10, 30]]
    frame().iloc[:1].to_file(path, layer="houses")
    with pytest.raises(
        TableError, match=r"a\.gpkg has the layers 'trees', 'houses'; say which .*: labels\.layer"
    ):
        read_points(path)
    assert found(path, layer="houses") == [[10, 20]]
    with pytest.raises(TableError, match=r"a\.gpkg has no layer 'roads'; it has 'trees', 'houses'"):
        read_points(path, layer="roads")


def test_files_without_a_coordinate_system(tmp_path):
    path = tmp_path / "a.shp"
    frame().to_file(path)
    path.with_suffix(".prj").unlink()
    with pytest.raises(
        TableError, match=r"a\.shp names no coordinate system, and array 80x120x1 lies on a map: give"
    ):
        found(path)
    # Of an image whose map has no name either they can only be its own.
    assert found(path, MapImage(UTM, None)) == [[10, 20], [10, 30]]


def test_on_a_picture_without_coordinates_qgis_counts_rows_downwards_from_zero(tmp_path):
    for name, places in (("a", [[20.0, -10.0], [30.0, -79.5]]), ("b", [[20.0, 10.0], [30.0, 79.5]])):
        for ending in ("gpkg", "shp", "parquet"):
            path = tmp_path / f"{name}.{ending}"
            table = geopandas.GeoDataFrame(geometry=shapely.points(places))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")
                table.to_parquet(path) if ending == "parquet" else table.to_file(path)
            assert found(path, PLAIN) == [[10, 20], [79.5, 30]]


def test_curves_become_lines_and_other_kinds_are_refused(tmp_path):
    path = tmp_path / "a.gml"
    head = (
        '<?xml version="1.0"?><FeatureCollection xmlns="http://x" xmlns:gml="http://www.opengis.net/gml/3.2">'
        '<member><thing><geom><gml:{0} srsName="urn:ogc:def:crs:EPSG::32616">'
    )
    arc = (
        "<gml:exterior><gml:Ring><gml:curveMember><gml:Curve><gml:segments><gml:ArcString><gml:posList>{0}"
        "</gml:posList></gml:ArcString></gml:segments></gml:Curve></gml:curveMember></gml:Ring></gml:exterior>"
    )
    corners = [(5, 0), (0, 5), (-5, 0), (0, -5), (5, 0)]
    text = " ".join(f"{EAST + dx} {NORTH + dy}" for dx, dy in corners)
    tail = "</gml:{0}></geom></thing></member></FeatureCollection>"
    path.write_text(head.format("Polygon") + arc.format(text) + tail.format("Polygon"))
    file = read_vector(path)
    assert file.geometries[0].geom_type == "Polygon"
    assert file.geometries[0].area == pytest.approx(np.pi * 25, rel=1e-2)
    assert found(path) == [[10, 20]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.gpkg", r"none\.gpkg: there is no such file of points or polygons"),
        ("a.gpkg", r"a\.gpkg is no file of geometries that GDAL reads, or it is damaged"),
        ("a.shp", r"a\.shp is no file of geometries"),
        ("a.fgb", r"a\.fgb is no file of geometries"),
        ("a.kml", r"a\.kml is no file of geometries"),
        ("a.parquet", r"a\.parquet is no GeoParquet file, or it is damaged"),
        ("a.zip", r"a\.zip is no file of geometries"),
        ("a.geojson.gz", r"a\.geojson\.gz is not one compressed file of GeoJSON"),
        ("a.geojson", r"a\.geojson is no text in UTF-8"),
    ],
)
def test_damaged_files(tmp_path, name, message):
    for start in ("a",) if not name.startswith("none") else ():
        (tmp_path / name).write_bytes(start.encode() + bytes(range(128, 256)) * 8)
    with pytest.raises(TableError, match=message):
        read_vector(tmp_path / name)


def test_a_file_cut_off(tmp_path):
    for name in ("a.gpkg", "a.fgb", "a.shp", "a.parquet"):
        path = tmp_path / name
        frame(label=["cat", "dog"]).to_parquet(path) if "parquet" in name else frame(
            label=["a", "b"]
        ).to_file(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(TableError, match=name.replace(".", r"\.")):
            read_points(path)


def test_objects_without_a_class_are_left_out_and_said(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(point(label=1), point(label=None), point(label=2), point())))
    with pytest.warns(
        DataWarning,
        match=r"a\.geojson: 2 of its 4 objects have no class, such as number 1 \(counted from 0\)",
    ):
        points = read_points(path)
    assert points.classes.tolist() == ["1", "2"]
    (tmp_path / "a.csv").write_text("y,x,label\n1,1,cat\n2,2,\n")
    with pytest.warns(DataWarning, match=r"a\.csv: 1 of its 2 objects have no class, such as number 1"):
        assert read_points(tmp_path / "a.csv").y.tolist() == [1]


def test_a_class_is_named_alike_in_all_files(tmp_path):
    names = set()
    for number, values in enumerate([(1, 2), (1.0, None), ("1", "2"), ("1.0", "2.0")]):
        path = tmp_path / f"{number}.geojson"
        path.write_text(
            json.dumps(collection(*(point(label=value) for value in values if value is not None)))
        )
        names |= set(read_points(path).classes)
        path = tmp_path / f"{number}.gpkg"
        frame(label=list(values)).to_file(path)
        names |= {name for name in read_vector(path).classes(None) if name}
    assert names == {"1", "2"}
