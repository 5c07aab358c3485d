"""Points as files: every kind of coordinates, what we write read again, and what is refused."""

import json

import numpy as np
import pytest
from rasterio.warp import transform

import xt
from tests.results.places import DISK, LOCAL
from xt.errors import TableError
from xt.images.array import ArrayImage
from xt.labels.formats.point_files import read_points
from xt.results.dense_writers import write_point_table, write_points

NAMES = ("cat", "dog")
UTM = (0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0)


class MapImage(ArrayImage):
    """An array that lies on a map."""

    def __init__(self, place, crs="EPSG:32616", shape=(80, 120)):
        super().__init__(np.zeros(shape, np.uint8))
        self.transform, self.crs = place, crs


PLAIN = xt.open_image(np.zeros((80, 120), np.uint8))


def write(path, text):
    path.write_text(text)
    return path


def test_pixels_with_classes_and_attributes(tmp_path):
    file = write(
        tmp_path / "a.csv", "y,x,label,length,is_vessel\n1.5,2,dog,30,yes\n79.9,119.9,cat,,no\n0,0,dog,5,\n"
    )
    points = read_points(file, attributes={"length": "number", "is_vessel": "yes_no"}).on(PLAIN, NAMES)
    np.testing.assert_array_equal(points.y, [1.5, 79.9, 0])
    np.testing.assert_array_equal(points.x, [2, 119.9, 0])
    np.testing.assert_array_equal(points.labels, [1, 0, 1])
    np.testing.assert_array_equal(points.attributes["length"], [30, np.nan, 5])
    np.testing.assert_array_equal(points.attributes["is_vessel"], [1, 0, np.nan])


def test_without_classes_all_are_of_one(tmp_path):
    file = read_points(write(tmp_path / "a.csv", "x,y\n3,4\n"))
    points = file.on(PLAIN, ("vessel",))
    assert (points.y.tolist(), points.x.tolist(), points.labels.tolist()) == ([4], [3], [0])
    with pytest.raises(
        TableError, match=r"none of its 1 objects has a class, and there are 'cat', 'dog'; give"
    ):
        file.on(PLAIN, NAMES)


@pytest.mark.parametrize(
    ("image", "writer"),
    [
        (MapImage(UTM), write_points),
        (MapImage((0.5, 0.2, 733601.0, 0.1, -0.5, 3725139.0)), write_points),
        (MapImage((1e-4, 0, -0.78, 0, -1e-4, 38.1), "EPSG:4326"), write_points),
        (MapImage(UTM, None), write_points),
        (MapImage(LOCAL["transform"], LOCAL["crs"]), write_points),
        (PLAIN, write_points),
        (MapImage(UTM), write_point_table),
    ],
    ids=["map", "sheared map", "degrees", "map without a name", "local", "QuPath", "CSV"],
)
def test_what_is_written_is_read_again(tmp_path, image, writer):
    rng = np.random.default_rng(0)
    columns = {
        "y": rng.uniform(0, 80, 9),
        "x": rng.uniform(0, 120, 9),
        "score": rng.random(9),
        "label": rng.integers(0, 2, 9),
        "length": rng.uniform(1, 9, 9),
    }
    path = tmp_path / ("p.csv" if writer is write_point_table else "p.geojson")
    writer(columns, image, path, NAMES)
    points = read_points(path, attributes={"length": "number"}).on(image, NAMES)
    np.testing.assert_allclose(points.y, columns["y"], atol=2e-3)
    np.testing.assert_allclose(points.x, columns["x"], atol=2e-3)
    np.testing.assert_array_equal(points.labels, columns["label"])
    np.testing.assert_allclose(points.attributes["length"], columns["length"], rtol=1e-6)


def test_map_columns_and_degrees_find_the_same_pixels(tmp_path):
    image = MapImage(UTM)
    y, x = np.array([10.25, 70.5]), np.array([5.5, 110.75])
    east, north = UTM[2] + 0.5 * x, UTM[5] - 0.5 * y
    longitude, latitude = transform("EPSG:32616", "EPSG:4326", east, north)
    feature = {"type": "Feature", "properties": None, "geometry": {"type": "Point"}}
    features = [
        feature | {"geometry": {"type": "Point", "coordinates": [a, b, 12.0]}}
        for a, b in zip(longitude, latitude, strict=True)
    ]
    files = [
        write(
            tmp_path / "m.csv",
            "map_y,map_x\n" + "\n".join(f"{b:.4f},{a:.4f}" for a, b in zip(east, north, strict=True)),
        ),
        write(
            tmp_path / "d.csv",
            "latitude,longitude\n"
            + "\n".join(f"{b:.9f},{a:.9f}" for a, b in zip(longitude, latitude, strict=True)),
        ),
        write(tmp_path / "d.geojson", json.dumps({"type": "FeatureCollection", "features": features})),
    ]
    for file in files:
        points = read_points(file).on(image, ("point",))
        np.testing.assert_allclose(np.stack([points.y, points.x]), [y, x], atol=2e-3)


def test_what_the_image_s_map_does_not_have_lies_beside_it(tmp_path):
    """A table of places all over the world, for a satellite's view of one side of it."""
    file = write(tmp_path / "p.csv", "latitude,longitude\n0,-75\n0,105\n-30,150\n")
    points = read_points(file).on(MapImage(DISK["transform"], DISK["crs"], (220, 220)), ("point",))
    assert (points.y.tolist(), points.x.tolist()) == (pytest.approx([110]), pytest.approx([110]))


def test_on_a_map_what_lies_beside_the_image_is_left_out_in_pixels_refused(tmp_path):
    image = MapImage(UTM)
    file = write(tmp_path / "m.csv", "map_y,map_x\n3725138,733602\n3725138,733662\n")
    assert read_points(file).on(image, ("point",)).x.tolist() == [2]
    with pytest.raises(
        TableError, match=r"m\.csv has coordinates on a map .* array 80x120x1 does not say where"
    ):
        read_points(file).on(PLAIN, ("point",))
    with pytest.raises(TableError, match=r"the point y=3, x=120 \(row 1\) lies outside of array 80x120x1"):
        read_points(write(tmp_path / "p.csv", "y,x\n1,1\n3,120\n")).on(PLAIN, ("point",))


def test_of_polygons_the_centre_of_gravity(tmp_path):
    # An L of three unit squares, closed, far from the origin: its centre is that of the three squares' centres.
    corners = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2), (0, 0)]) + np.array([1e6, 2e6])
    small = [[1e6, 2e6], [1e6 + 0.1, 2e6], [1e6, 2e6 + 0.1], [1e6, 2e6]]
    geometries = [
        {"type": "Polygon", "coordinates": [corners.tolist()]},
        {"type": "MultiPolygon", "coordinates": [[small], [corners.tolist()]]},
    ]
    path = tmp_path / "p.geojson"
    path.write_text(json.dumps({"features": [{"geometry": g, "properties": {}} for g in geometries]}))
    points = read_points(path)
    np.testing.assert_allclose(points.x - 1e6, [5 / 6, 5 / 6], atol=1e-8)
    np.testing.assert_allclose(points.y - 2e6, [5 / 6, 5 / 6], atol=1e-8)


def test_of_a_multipoint_each_is_a_point(tmp_path):
    path = tmp_path / "p.geojson"
    geometry = {"type": "MultiPoint", "coordinates": [[3.0, 4.5]]}
    path.write_text(json.dumps({"features": [{"geometry": geometry, "properties": {}}]}))
    points = read_points(path)
    assert (points.y.tolist(), points.x.tolist()) == ([4.5], [3.0])
    geometry["coordinates"].append([5.0, 6.0])
    path.write_text(json.dumps({"features": [{"geometry": geometry, "properties": {}}]}))
    points = read_points(path)
    assert (points.y.tolist(), points.x.tolist()) == ([4.5, 6.0], [3.0, 5.0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "row,column\n1,2\n", r"a\.csv: expected columns y and x .*; its columns are row, column"),
        (
            "a.csv",
            "y,x,length\n1,,2\n",
            r"column 'x' must hold a finite number in every row, got nothing in row 0",
        ),
        ("a.csv", "y,x\n1,2\n", r"a\.csv has no column 'length' for the attribute of that name; it has y, x"),
        ("a.geojson", "{", r"a\.geojson is not a readable JSON file"),
        (
            "a.geojson",
            '{"features": [{"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}]}',
            r"a\.geojson: feature 0 \(counted from 0\) is a LineString, but points are expected",
        ),
    ],
)
def test_files_that_are_none(tmp_path, name, text, message):
    with pytest.raises(TableError, match=message):
        read_points(write(tmp_path / name, text), attributes={"length": "number"})


def test_missing_files_and_columns(tmp_path):
    for name in ("none.csv", "none.geojson"):
        with pytest.raises(TableError, match=r"none\.\w+: there is no such"):
            read_points(tmp_path / name)
    with pytest.raises(TableError, match=r"has no column 'kind' for the class; it has y, x"):
        read_points(write(tmp_path / "a.csv", "y,x\n1,2\n"), class_column="kind")


def test_coordinate_systems_that_cannot_be(tmp_path):
    feature = {"geometry": {"type": "Point", "coordinates": [733602.0, 3725138.0]}, "properties": {}}
    file = write(tmp_path / "a.geojson", json.dumps({"features": [feature]}))
    with pytest.raises(TableError, match=r"names no coordinate system, so its coordinates must be degrees"):
        read_points(file).on(MapImage(UTM), ("point",))
    named = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::99999"}}}
    file = write(tmp_path / "b.geojson", json.dumps({"features": [feature]} | named))
    with pytest.raises(TableError, match=r"has no coordinate system to turn it into"):
        read_points(file).on(MapImage(LOCAL["transform"], LOCAL["crs"]), ("point",))
    with pytest.raises(
        TableError, match=r"names the coordinate system 'urn:ogc:def:crs:EPSG::99999', which is unknown"
    ):
        read_points(file).on(MapImage(UTM), ("point",))


@pytest.mark.parametrize(
    "names",
    ["latitude,longitude", "Latitude,Longitude", "LAT,LON", "lat,lng", "decimalLatitude,decimalLongitude"],
)
def test_columns_of_degrees_in_the_usual_spellings(tmp_path, names):
    from rasterio.warp import transform

    longitude, latitude = transform("EPSG:32616", "EPSG:4326", [UTM[2] + 0.5 * 30.5], [UTM[5] - 0.5 * 20.25])
    (tmp_path / "p.csv").write_text(f"{names},label\n{latitude[0]!r},{longitude[0]!r},a\n")
    points = read_points(tmp_path / "p.csv").on(MapImage(UTM), ("a",))
    np.testing.assert_allclose([points.y[0], points.x[0]], [20.25, 30.5], atol=1e-3)


@pytest.mark.parametrize("names", ["X,Y", "Y,X"])
def test_x_and_y_in_capitals_may_count_in_any_unit(tmp_path, names):
    (tmp_path / "p.csv").write_text(f"{names}\n1,2\n")
    with pytest.raises(TableError, match=r"expected columns y and x \(pixels\)"):
        read_points(tmp_path / "p.csv")
