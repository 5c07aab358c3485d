import csv

import numpy as np
import pytest
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform as warp

from tests.results.places import LATLON, OWN, SLIDE, SOUTH_UP, TURNED, UTM, Pixels, features
from xt.errors import OutputError
from xt.labels.box_table import BoxTable
from xt.results.box_writers import read_boxes, write_box_table, write_boxes

NAMES = ["tree", "bush"]
EDGES = [(0.0, 0.0, 12.5, 7.25), (20.0, 30.0, 60.0, 45.0), (100.0, 5.0, 101.0, 50.0)]


def boxes() -> BoxTable:
    return BoxTable.of(EDGES, [0, 1, 1], scores=[0.25, 0.987654321, 1.0])


@pytest.mark.parametrize("where", [UTM, TURNED, SOUTH_UP, LATLON])
def test_boxes_lie_on_the_map_to_a_thousandth_of_a_pixel(where, tmp_path):
    image = Pixels(np.zeros((200, 50), np.uint8), **where)
    assert write_boxes(boxes(), image, tmp_path / "b.geojson", NAMES) == tmp_path / "b.geojson"
    found = features(tmp_path / "b.geojson")
    name = "urn:ogc:def:crs:OGC:1.3:CRS84" if where is LATLON else "urn:ogc:def:crs:EPSG::32618"
    assert found["crs"]["properties"]["name"] == name
    to_pixels = ~Affine(*where["transform"])
    for feature, (y0, x0, y1, x1) in zip(found["features"], EDGES, strict=True):
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert (x[:-1] * y[1:] - x[1:] * y[:-1] - x[0] * (y[1:] - y[:-1])).sum() > 0, "counter-clockwise"
        corners = sorted(
            (to_pixels @ tuple(corner) for corner in ring[:-1]), key=lambda at: np.round(at).tolist()
        )
        np.testing.assert_allclose(corners, [(x0, y0), (x0, y1), (x1, y0), (x1, y1)], atol=1.1e-3)
    assert [feature["properties"] for feature in found["features"][:2]] == [
        {"class": "tree", "label": 0, "score": 0.25},
        {"class": "bush", "label": 1, "score": 0.9876543},
    ]
    # Burnt by their map coordinates, those along pixels' edges are those pixels.
    shapes = [feature["geometry"] for feature in found["features"][1:]]
    burnt = rasterize(shapes, image.shape, transform=Affine(*where["transform"]), dtype="uint8")
    expected = np.zeros(image.shape, np.uint8)
    expected[20:60, 30:45] = expected[100:101, 5:50] = 1
    np.testing.assert_array_equal(burnt, expected)


def test_boxes_on_a_map_without_a_name_are_in_degrees(tmp_path):
    write_boxes(boxes(), Pixels(np.zeros((200, 50), np.uint8), **OWN), tmp_path / "b.geojson", NAMES)
    found = features(tmp_path / "b.geojson")
    assert "crs" not in found, "RFC 7946"
    ring = np.array(found["features"][1]["geometry"]["coordinates"][0])
    back = np.stack(warp("EPSG:4326", OWN["crs"], ring[:, 0], ring[:, 1]), axis=1)
    y, x = (2000 - back[:, 1]) / 0.5, (back[:, 0] - 1000) / 0.5
    np.testing.assert_allclose(np.unique(y.round(2)), [20, 60])
    np.testing.assert_allclose(np.unique(x.round(2)), [30, 45])


def test_boxes_of_a_slide_are_objects_of_qupath(tmp_path):
    write_boxes(boxes(), Pixels(np.zeros((200, 50), np.uint8), **SLIDE), tmp_path / "b.geojson", NAMES)
    found = features(tmp_path / "b.geojson")
    assert "crs" not in found
    feature = found["features"][0]
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["geometry"]["coordinates"] == [[[0, 0], [0, 12.5], [7.25, 12.5], [7.25, 0], [0, 0]]]
    assert feature["properties"] == {
        "objectType": "detection",
        "classification": {"name": "tree", "color": [230, 159, 0]},
        "measurements": {"score": 0.25},
    }


def test_more_boxes_than_are_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("xt.results.geojson._AT_ONCE", 2)
    image = Pixels(np.zeros((200, 50), np.uint8), **UTM)
    write_boxes(boxes(), image, tmp_path / "b.geojson", NAMES)
    in_parts = (tmp_path / "b.geojson").read_bytes()
    monkeypatch.undo()
    write_boxes(boxes(), image, tmp_path / "b.geojson", NAMES)
    assert in_parts == (tmp_path / "b.geojson").read_bytes()
    assert in_parts.count(b"Polygon") == 3


def test_the_table_is_read_again(tmp_path):
    write_box_table(boxes(), tmp_path / "b.csv", NAMES)
    with (tmp_path / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "y0": "20.000", "x0": "30.000", "y1": "60.000", "x1": "45.000", "score": "0.9876543", "label": "1",
        "class": "bush",
    }  # fmt: skip
    found = read_boxes(tmp_path / "b.csv")
    np.testing.assert_array_equal(found.edges, EDGES)
    np.testing.assert_allclose(found.scores, boxes().scores, rtol=1e-7)
    assert found.labels.tolist() == [0, 1, 1]


def test_no_boxes(tmp_path):
    image = Pixels(np.zeros((200, 50), np.uint8))
    write_boxes(BoxTable.empty(), image, tmp_path / "b.geojson", NAMES)
    write_box_table(BoxTable.empty(), tmp_path / "b.csv", NAMES)
    assert features(tmp_path / "b.geojson") == {"type": "FeatureCollection", "features": []}
    assert len(read_boxes(tmp_path / "b.csv")) == 0


def test_what_cannot_be_written_or_read(tmp_path):
    image = Pixels(np.zeros((20, 50), np.uint8), **UTM)
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        write_boxes(boxes(), image, tmp_path / "nowhere" / "b.geojson", NAMES)
    for write in (
        lambda names: write_boxes(boxes(), image, tmp_path / "b.geojson", names),
        lambda names: write_box_table(boxes(), tmp_path / "b.csv", names),
    ):
        with pytest.raises(IndexError):
            write(NAMES[:1])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "p.csv").write_text("y,x,score\n1,2,0.5\n")
    with pytest.raises(
        OutputError, match=r"p\.csv is not a table of boxes as xt writes it: it has no column 'y0'"
    ):
        read_boxes(tmp_path / "p.csv")
