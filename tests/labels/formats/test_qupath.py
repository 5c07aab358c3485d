"""QuPath's objects, in the spellings of its versions."""

import json

import numpy as np
import pytest

import xt
from tests.labels.formats.test_point_files import PLAIN
from xt.errors import DataWarning, TableError
from xt.heads import BoxTable
from xt.images.array import ArrayImage
from xt.labels.formats.point_files import read_points
from xt.results.box_writers import write_boxes
from xt.results.dense_writers import write_outlines, write_points


def thing(x, y, classification=None, geometry=None, **members):
    properties = members.pop("properties", {"objectType": "annotation"})
    if classification is not None:
        properties = {**properties, "classification": classification}
    geometry = geometry or {"type": "Point", "coordinates": [x, y]}
    return {"type": "Feature", "id": "2a5e", "geometry": geometry, "properties": properties, **members}


def read(tmp_path, *features, **options):
    path = tmp_path / "q.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return read_points(path, **options)


RED = [200, 0, 0]
CLASSES = {
    "0.5": ({"names": ["Tumor", "Positive"], "color": RED}, "Tumor: Positive"),
    "0.5, one name": ({"names": ["Stroma"], "color": RED}, "Stroma"),
    "0.4": ({"name": "Tumor: Negative", "color": RED}, "Tumor: Negative"),
    "0.3": ({"name": "Tumor: Positive", "colorRGB": -377282}, "Tumor: Positive"),
    "0.2": (
        {"name": "Positive", "colorRGB": -1, "parentClass": {"name": "Tumor", "colorRGB": -1}},
        "Tumor: Positive",
    ),
    "three": ({"names": ["CD3", "CD8", "PD1"], "color": RED}, "CD3: CD8: PD1"),
    "text": ("Stroma", "Stroma"),
    "without a colour": ({"name": "Mitosis"}, "Mitosis"),
    "a number": ({"name": 1.0}, "1"),
    "a list": (["Tumor", "Positive"], "Tumor: Positive"),
}


@pytest.mark.parametrize("version", CLASSES)
def test_classes(tmp_path, version):
    classification, name = CLASSES[version]
    assert read(tmp_path, thing(1, 2, classification)).classes.tolist() == [name]


def test_derived_classes_are_classes_of_their_own(tmp_path):
    (tmp_path / "t.csv").write_text("image,points\na.tif,q.geojson\n")
    read(
        tmp_path,
        thing(1, 2, {"names": ["Tumor", "Positive"]}),
        thing(1, 2, {"names": ["Tumor", "Negative"]}),
        thing(1, 2, {"names": ["Stroma"]}),
        thing(1, 2, {"name": "Tumor"}),
    )
    from xt.data.dense_table import read_point_table

    (tmp_path / "a.tif").touch()
    table = read_point_table(tmp_path / "t.csv")
    assert table.class_names == ("Stroma", "Tumor", "Tumor: Negative", "Tumor: Positive")


@pytest.mark.parametrize("empty", [{}, None, {"names": []}, {"name": None}, ""])
def test_objects_without_a_class(tmp_path, empty):
    one = thing(3, 4, properties={"objectType": "annotation", "classification": empty})
    with pytest.warns(DataWarning, match=r"q\.geojson: 1 of its 2 objects have no class, such as number 1"):
        assert read(tmp_path, thing(1, 2, "a"), one).classes.tolist() == ["a"]


@pytest.mark.parametrize(
    "kind",
    [
        {"properties": {"objectType": "annotation"}},
        {"properties": {"object_type": "detection"}},
        {"properties": {"objectType": "cell", "isLocked": True}},
        {"id": "PathAnnotationObject", "properties": {}},
        {"id": "PathDetectionObject", "properties": {"isLocked": False}},
        {"id": "x", "properties": {"isLocked": False, "classification": {"name": "a", "colorRGB": -1}}},
    ],
)
def test_objects_count_in_pixels(tmp_path, kind):
    """Also on images that lie on a map."""
    from tests.labels.formats.test_point_files import UTM, MapImage

    points = read(tmp_path, thing(30.5, 20.25, **kind)).on(MapImage(UTM), ("a",))
    assert (points.y.tolist(), points.x.tolist()) == ([20.25], [30.5])


@pytest.mark.parametrize(
    "measurements",
    [
        [{"name": "Area", "value": 3.5}, {"name": "Length", "value": 2}],
        {"Area": 3.5, "Length": 2},
        {"Area": "3.5", "Length": "NaN"},
    ],
)
def test_measurements_old_and_new(tmp_path, measurements):
    properties = {"objectType": "cell", "measurements": measurements}
    points = read(tmp_path, thing(1, 2, "a", properties=properties), attributes={"Area": "number"})
    assert points.attributes["Area"].tolist() == [3.5]


def test_each_of_several_points_is_one(tmp_path):
    several = {"type": "MultiPoint", "coordinates": [[10.5, 20.5], [30.5, 40.5], [50.5, 60.5]]}
    points = read(tmp_path, thing(1, 2, {"name": "Mitosis"}, several), thing(7, 8, {"name": "Other"}))
    assert points.x.tolist() == [10.5, 30.5, 50.5, 7]
    assert points.classes.tolist() == ["Mitosis"] * 3 + ["Other"]


def test_cells_are_where_their_outline_is(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]], "isEllipse": True}
    nucleus = {"type": "Polygon", "coordinates": [[[2, 2], [3, 2], [3, 3], [2, 2]]]}
    points = read(tmp_path, thing(0, 0, "a", square, nucleusGeometry=nucleus))
    assert (points.y.tolist(), points.x.tolist()) == ([2], [2])


def test_lines_are_refused_by_name(tmp_path):
    line = {"type": "LineString", "coordinates": [[0, 0], [100, 0]]}
    scale = thing(0, 0, geometry=line, properties={"objectType": "annotation", "name": "scale bar"})
    message = (
        r"q\.geojson: feature 1 \(counted from 0\), 'scale bar', is a LineString, but points are expected"
    )
    with pytest.raises(TableError, match=message):
        read(tmp_path, thing(1, 2, "a"), scale)
    with pytest.raises(TableError, match=r"is a LineString \(and 1 more\), but .*: take it out of the file"):
        read(tmp_path, scale, scale)


def test_the_slide_and_tissue_cores_are_no_labels_and_children_are(tmp_path):
    core = thing(5, 5, properties={"objectType": "tmaCore", "isMissing": False})
    root = thing(
        0, 0, geometry={}, properties={"objectType": "root", "childObjects": [core, thing(1, 2, "a")]}
    )
    root["geometry"] = {}
    points = read(tmp_path, root, thing(3, 4, "b"))
    assert points.classes.tolist() == ["a", "b"]


def test_other_planes_are_left_out_and_said(tmp_path):
    def at(**plane):
        return thing(1, 2, "a", {"type": "Point", "coordinates": [1, 2], "plane": {"c": -1, **plane}})

    with pytest.warns(
        DataWarning, match=r"2 of 3 objects lie in another focal plane or time point than the first"
    ):
        points = read(tmp_path, at(z=0, t=0), at(z=3, t=0), at(z=0, t=1))
    assert len(points.y) == 1


class Scanned(ArrayImage):
    """An array of which only a part was scanned, from (128, 192)."""

    qupath_origin = (128, 192)


def test_objects_count_from_where_the_scanned_part_begins(tmp_path):
    image = Scanned(np.zeros((400, 500), np.uint8))
    points = read(tmp_path, thing(10.5, 20.5, "a")).on(image, ("a",))
    assert (points.y.tolist(), points.x.tolist()) == ([148.5], [202.5])
    # What knows nothing of QuPath counts from the image's corner.
    (tmp_path / "p.csv").write_text("y,x\n20.5,10.5\n")
    assert read_points(tmp_path / "p.csv").on(image, ("a",)).y.tolist() == [20.5]
    with pytest.raises(TableError, match=r"the point y=408, x=202 \(row 0\) lies outside of array 400x500x1"):
        read(tmp_path, thing(10, 280, "a")).on(image, ("a",))


def test_what_is_written_for_qupath_counts_likewise(tmp_path):
    image = Scanned(np.zeros((400, 500), np.uint8))
    columns = {"y": np.array([148.5]), "x": np.array([202.5]), "score": np.ones(1), "label": np.zeros(1, int)}
    write_points(columns, image, tmp_path / "p.geojson", ("a", "b"))
    (feature,) = json.loads((tmp_path / "p.geojson").read_text())["features"]
    assert feature["geometry"]["coordinates"] == [10.5, 20.5]
    points = read_points(tmp_path / "p.geojson").on(image, ("a", "b"))
    assert (points.y.tolist(), points.x.tolist()) == ([148.5], [202.5])
    write_boxes(BoxTable.of([[138, 202, 158, 232]]), image, tmp_path / "b.geojson", ("a",))
    (feature,) = json.loads((tmp_path / "b.geojson").read_text())["features"]
    assert sorted(map(tuple, feature["geometry"]["coordinates"][0]))[0] == (10, 10)
    mask = Scanned(np.pad(np.ones((4, 6), np.uint8), ((130, 266), (200, 294))))
    write_outlines(mask, tmp_path / "o.geojson", ("a", "b"), [1])
    (feature,) = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert min(map(tuple, feature["geometry"]["coordinates"][0])) == (8, 2)


def test_the_scanned_part_of_a_slide(tmp_path):
    from tests.images.scn_file import write_scn

    with xt.open_image(write_scn(tmp_path / "a.scn")) as image:
        assert image.qupath_origin == (128, 192)
        points = read(tmp_path, thing(210, 110, {"name": "square"})).on(image, ("square",))
        assert (points.y.tolist(), points.x.tolist()) == ([238], [402])
        assert image.read(238, 402, 1, 1)[0, 0].tolist() == [200, 0, 0]
    assert PLAIN.qupath_origin == (0, 0)


@pytest.mark.parametrize("key", ["objectType", "object_type"])
@pytest.mark.parametrize("kind", ["ship", "Building", 3, "tree"])
def test_columns_of_maps_that_are_called_like_qupath_s_are_none_of_its_objects(tmp_path, key, kind):
    from rasterio.warp import transform

    from tests.labels.formats.test_point_files import UTM, MapImage

    longitude, latitude = transform("EPSG:32616", "EPSG:4326", [UTM[2] + 0.5 * 30.5], [UTM[5] - 0.5 * 20.25])
    points = read(tmp_path, thing(longitude[0], latitude[0], properties={key: kind})).on(
        MapImage(UTM), ("a",)
    )
    np.testing.assert_allclose([points.y[0], points.x[0]], [20.25, 30.5], atol=1e-3)
