"""Results and labels of images that control points or rational polynomials locate: they lie where the image does."""

import csv

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from tests.images.located_files import curved, gcps, rpc, straight, write_located
from tests.results.places import features
from xt.images import open_image, tile
from xt.labels.box_table import BoxTable
from xt.labels.formats.point_files import read_points
from xt.regions.grid import RegionGrid
from xt.results.box_writers import write_boxes
from xt.results.dense_writers import write_mask, write_outlines, write_point_table, write_points
from xt.results.relevance import relevance_map
from xt.results.writers import write_relevance

SHAPE = (150, 200)
NAMES = ["background", "ship"]
# By degrees: a thousandth of a pixel, and what two polynomials, there and back, differ by.
CLOSE = 2e-8


@pytest.fixture(params=["straight", "curved", "rpc"])
def located(request, tmp_path):
    """A mask and the function that says where its pixels lie."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:60, 100:130] = 1
    where = curved if request.param == "curved" else straight
    given = {"rpcs": rpc(SHAPE)} if request.param == "rpc" else {"points": gcps(SHAPE, where)}
    with open_image(write_located(tmp_path / "mask.tif", mask, **given)) as image:
        yield image, where


def same_control(path, image) -> None:
    """That a file of the image's pixels is located as the image is."""
    with open_image(path) as written:
        assert written.transform is None
        corners = np.array([0.0, 150, 75]), np.array([0.0, 200, 3])
        np.testing.assert_allclose(
            written.location.to_map(*corners), image.location.to_map(*corners), atol=1e-9
        )
        assert type(written.control) is type(image.control)


def test_masks_carry_it_on(located, tmp_path):
    image, _ = located
    write_mask(image, tmp_path / "written.tif", NAMES, {})
    same_control(tmp_path / "written.tif", image)


def test_tiled_images_and_their_parts_carry_it_on(located, tmp_path):
    image, where = located
    tile(image.path, tmp_path / "t.tif")
    same_control(tmp_path / "t.tif", image)
    tile(image.crop(30, 50, 100, 120).rotate(1), tmp_path / "part.tif")
    with open_image(tmp_path / "part.tif") as part:
        # The top left corner of the turned part is the top right one of the part.
        there = np.concatenate(part.location.to_map(np.array([0.0]), np.array([0.0])))
    np.testing.assert_allclose(there, where(30, 170), atol=CLOSE)


def test_the_control_points_of_a_mask_are_those_of_the_image(tmp_path):
    points = gcps(SHAPE, curved)
    with open_image(write_located(tmp_path / "mask.tif", np.zeros(SHAPE, np.uint8), points)) as image:
        write_mask(image, tmp_path / "written.tif", NAMES, {})
    with rasterio.open(tmp_path / "written.tif") as file:
        written, crs = file.gcps
    assert crs.to_epsg() == 4326
    assert [(p.row, p.col, p.x, p.y, p.z) for p in written] == [
        pytest.approx((p.row, p.col, p.x, p.y, 12.5)) for p in points
    ]


def test_points_and_boxes_lie_on_the_map(located, tmp_path):
    image, where = located
    y, x = np.array([50.25, 149.0]), np.array([110.5, 0.5])
    found = {"y": y, "x": x, "score": np.ones(2), "label": np.ones(2, int)}
    write_points(found, image, tmp_path / "p.geojson", NAMES)
    there = [each["geometry"]["coordinates"] for each in features(tmp_path / "p.geojson")["features"]]
    np.testing.assert_allclose(there, [where(*place) for place in zip(y, x, strict=True)], atol=CLOSE)
    write_point_table(found, image, tmp_path / "p.csv", NAMES)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = [(float(row["map_x"]), float(row["map_y"])) for row in csv.DictReader(file)]
    np.testing.assert_allclose(rows, there, atol=1e-12)
    boxes = BoxTable.of(np.array([[10.0, 20.0, 30.0, 60.0]]), np.array([1]), scores=np.array([0.5]))
    write_boxes(boxes, image, tmp_path / "b.geojson", NAMES)
    (ring,) = features(tmp_path / "b.geojson")["features"][0]["geometry"]["coordinates"]
    np.testing.assert_allclose(ring[0], where(10, 20), atol=CLOSE)
    np.testing.assert_allclose(ring[2], where(30, 60), atol=CLOSE)
    # And read again they are where they were.
    for name in ("p.geojson", "p.csv"):
        again = read_points(tmp_path / name).on(image, NAMES)
        np.testing.assert_allclose((again.y, again.x), (y, x), atol=0.02)


def test_outlines_lie_on_the_map(located, tmp_path):
    image, where = located
    assert write_outlines(image, tmp_path / "o.geojson", NAMES, [1]) == 1
    (feature,) = features(tmp_path / "o.geojson")["features"]
    (ring,) = feature["geometry"]["coordinates"]
    corners = {tuple(np.round(corner, 7)) for corner in ring}
    assert corners == {
        tuple(np.round(where(*corner), 7)) for corner in [(40, 100), (60, 100), (60, 130), (40, 130)]
    }


def test_relevance_carries_it_on(located, tmp_path):
    image, where = located
    grid = RegionGrid(height=150, width=200, region_size=64)
    weights = np.ones(len(grid) * 16)
    write_relevance(relevance_map(weights, grid, 4, image), tmp_path / "r.tif")
    with open_image(tmp_path / "r.tif") as relevance:
        # A pixel of the map is 16 of the image.
        there = np.concatenate(relevance.location.to_map(np.array([3.0]), np.array([5.0])))
    np.testing.assert_allclose(there, where(48, 80), atol=CLOSE)


def test_labels_in_another_system_come_into_the_pixels(located, tmp_path):
    image, where = located
    (east,), (north,) = transform("EPSG:4326", "EPSG:32633", *np.array(where(50.5, 110.5)).reshape(2, 1))
    (tmp_path / "utm.geojson").write_text(
        '{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},'
        f'"features": [{{"type": "Feature", "properties": {{}}, "geometry": {{"type": "Point", "coordinates": [{east}, '
        f"{north}]}}}}]}}"
    )
    points = read_points(tmp_path / "utm.geojson").on(image, ("ship",))
    np.testing.assert_allclose((points.y, points.x), ([50.5], [110.5]), atol=0.02)
