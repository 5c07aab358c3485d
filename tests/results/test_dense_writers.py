import csv
import json
import warnings

import numpy as np
import openslide
import pytest
import rasterio
import rasterio.shutil
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform as warp

import xt
from tests.results.places import DISK, LATLON, LOCAL, OWN, SLIDE, SOUTH_UP, TURNED, UTM, Pixels, features
from xt.errors import ConfigError, OutputError
from xt.labels.formats.point_files import read_points
from xt.results.coordinates import place_of
from xt.results.dense_writers import (
    write_mask,
    write_outlines,
    write_point_table,
    write_points,
    write_probabilities,
)

NAMES = ["background", "nucleus <small>", "gland"]


def blobs(height: int = 700, width: int = 900) -> np.ndarray:
    """Classes 0, 1 and 2, and a corner without any."""
    y, x = np.mgrid[:height, :width]
    mask = (np.sin(y / 37) + np.cos(x / 53) > 0.9).astype(np.uint8)
    mask[(y - 300) ** 2 + (x - 500) ** 2 < 150**2] = 2
    mask[:64, :128] = 255
    return mask


def opened(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rasterio.open(path, **options)


def test_a_mask_as_cloud_optimised_geotiff(tmp_path):
    mask = blobs()
    assert (
        write_mask(Pixels(mask, **UTM), tmp_path / "m.tif", NAMES, {"XT_IMAGE": "scene"})
        == tmp_path / "m.tif"
    )
    with opened(tmp_path / "m.tif") as file:
        np.testing.assert_array_equal(file.read(1), mask)
        assert (file.crs.to_string(), file.transform, file.nodata) == (
            "EPSG:32618",
            Affine(*UTM["transform"]),
            255,
        )
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2]
        assert file.colorinterp[0].name == "palette"
        colours = file.colormap(1)
        assert len({colours[label] for label in (0, 1, 2)}) == 3
        assert colours[255][3] == 0, "nothing is transparent"
        assert (file.tags()["XT_IMAGE"], json.loads(file.tags()["XT_CLASSES"])) == ("scene", NAMES)
        assert file.descriptions == ("class",)
    # rasterio does not tell the names of classes, but GDAL writes them where it copies the file.
    rasterio.shutil.copy(tmp_path / "m.tif", tmp_path / "m.vrt", driver="VRT")
    assert "<Category>nucleus &lt;small&gt;</Category>" in (tmp_path / "m.vrt").read_text()


def test_levels_of_a_mask_hold_the_majority(tmp_path):
    mask = np.zeros((1024, 1024), np.uint8)
    mask[::2], mask[:, ::2] = 2, 2
    write_mask(Pixels(mask), tmp_path / "m.tif", NAMES, {})
    with opened(tmp_path / "m.tif", overview_level=0) as file:
        assert (file.read(1) == 2).all()


def test_a_mask_of_a_slide_opens_in_openslide(tmp_path):
    mask = blobs(1100, 1300)
    write_mask(Pixels(mask, **SLIDE), tmp_path / "m.tif", NAMES, {})
    with opened(tmp_path / "m.tif") as file:
        colours = file.colormap(1)
        np.testing.assert_array_equal(file.read(1), mask)
    with openslide.OpenSlide(tmp_path / "m.tif") as slide:
        assert slide.dimensions == (1300, 1100)
        assert slide.level_dimensions[1:] == ((650, 550), (325, 275))
        pixels = np.asarray(slide.read_region((450, 250), 0, (100, 100)))
        np.testing.assert_array_equal(pixels[50, 50, :3], colours[2][:3])
    with xt.open_image(tmp_path / "m.tif") as image:
        assert image.microns_per_pixel == pytest.approx((0.5, 0.25))


def test_probabilities_have_a_band_a_class(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (600, 700, 3), dtype=np.uint8)
    pixels[:10, :10] = 255
    write_probabilities(Pixels(pixels, **UTM), tmp_path / "p.tif", NAMES, {})
    with opened(tmp_path / "p.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels.transpose(2, 0, 1))
        assert file.descriptions == tuple(NAMES)
        assert file.nodata == 255
        assert file.scales == pytest.approx([1 / 254] * 3)
        assert file.overviews(2) == [2]


@pytest.mark.parametrize("where", [UTM, TURNED, SOUTH_UP, LATLON])
def test_outlines_lie_on_the_map_where_the_mask_does(where, tmp_path):
    mask = blobs()
    count = write_outlines(Pixels(mask, **where), tmp_path / "o.geojson", NAMES, [1, 2])
    found = features(tmp_path / "o.geojson")
    assert len(found["features"]) == count
    name = "urn:ogc:def:crs:OGC:1.3:CRS84" if where is LATLON else "urn:ogc:def:crs:EPSG::32618"
    assert found["crs"]["properties"]["name"] == name
    # Burnt back by their map coordinates, they give the mask again.
    shapes = [(feature["geometry"], feature["properties"]["label"]) for feature in found["features"]]
    burnt = rasterize(shapes, mask.shape, transform=Affine(*where["transform"]), dtype="uint8")
    np.testing.assert_array_equal(burnt, np.where(mask == 255, 0, mask))
    areas = {"nucleus <small>": 0, "gland": 0}
    for feature in found["features"]:
        areas[feature["properties"]["class"]] += feature["properties"]["area_px"]
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            x, y = np.array(ring).T
            counter_clockwise = (x[:-1] * y[1:] - x[1:] * y[:-1] - x[0] * (y[1:] - y[:-1])).sum() > 0
            assert counter_clockwise == (number == 0)
    assert areas == {"nucleus <small>": (mask == 1).sum(), "gland": (mask == 2).sum()}


def test_outlines_on_a_map_without_a_name_are_in_degrees(tmp_path):
    mask = np.zeros((50, 60), np.uint8)
    mask[20:30, 10:15] = 1
    write_outlines(Pixels(mask, **OWN), tmp_path / "o.geojson", NAMES, [1])
    found = features(tmp_path / "o.geojson")
    assert "crs" not in found, "RFC 7946"
    ring = np.array(found["features"][0]["geometry"]["coordinates"][0])
    back = np.stack(warp("EPSG:4326", OWN["crs"], ring[:, 0], ring[:, 1]), axis=1)
    y, x = (2000 - back[:, 1]) / 0.5, (back[:, 0] - 1000) / 0.5
    np.testing.assert_allclose(np.unique(y.round(2)), [20, 30])
    np.testing.assert_allclose(np.unique(x.round(2)), [10, 15])


def test_outlines_of_a_slide_are_objects_of_qupath(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[3:7, 5:15], mask[4, 6] = 1, 0
    assert write_outlines(Pixels(mask, **SLIDE), tmp_path / "o.geojson", NAMES, [1, 2]) == 1
    found = features(tmp_path / "o.geojson")
    assert "crs" not in found
    (feature,) = found["features"]
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["classification"] == {"name": "nucleus <small>", "color": [230, 159, 0]}
    assert feature["properties"]["measurements"] == {"area_px": 39}
    outer, hole = feature["geometry"]["coordinates"]
    assert sorted(map(tuple, outer[:-1])) == [(5, 3), (5, 7), (15, 3), (15, 7)]
    assert sorted(map(tuple, hole[:-1])) == [(6, 4), (6, 5), (7, 4), (7, 5)]


def test_no_outlines_are_an_empty_collection(tmp_path):
    assert write_outlines(Pixels(np.zeros((9, 9), np.uint8)), tmp_path / "o.geojson", NAMES, [1]) == 0
    assert features(tmp_path / "o.geojson") == {"type": "FeatureCollection", "features": []}
    with pytest.raises(ConfigError, match="there is no class 3 to outline: the classes are 0 to 2"):
        write_outlines(Pixels(np.zeros((9, 9), np.uint8)), tmp_path / "o.geojson", NAMES, [3])


def points() -> dict[str, np.ndarray]:
    return {
        "y": np.array([0.0, 100.25, 17.5]),
        "x": np.array([0.0, 7.125, 29.5]),
        "score": np.array([0.25, 0.987654321, 1.0]),
        "label": np.array([0, 2, 1]),
        "length": np.array([120.5, np.nan, 30.0]),
    }


@pytest.mark.parametrize("where", [UTM, TURNED, LATLON, LOCAL])
def test_points_lie_on_the_map_to_a_thousandth_of_a_pixel(where, tmp_path):
    image = Pixels(np.zeros((200, 50), np.uint8), **where)
    write_points(points(), image, tmp_path / "p.geojson", NAMES)
    write_point_table(points(), image, tmp_path / "p.csv", NAMES)
    found = features(tmp_path / "p.geojson")["features"]
    to_pixels = ~Affine(*where["transform"])
    for feature, y, x in zip(found, points()["y"], points()["x"], strict=True):
        assert to_pixels @ tuple(feature["geometry"]["coordinates"]) == pytest.approx((x, y), abs=1e-3)
    assert found[0]["properties"] == {"class": "background", "label": 0, "score": 0.25, "length": 120.5}
    assert found[1]["properties"] == {"class": "gland", "label": 2, "score": 0.9876543}
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["y", "x", "map_y", "map_x", "score", "label", "class", "length"]
    assert (rows[1]["y"], rows[1]["x"], rows[1]["class"], rows[1]["length"]) == (
        "100.250",
        "7.125",
        "gland",
        "",
    )
    for feature, row in zip(found, rows, strict=True):
        assert [float(row["map_x"]), float(row["map_y"])] == feature["geometry"]["coordinates"]


def test_what_lies_beyond_the_map_is_written_without_a_place(tmp_path):
    """The corners of a satellite's full disk are not on Earth, and what is found in its middle is not lost for them."""
    image = Pixels(np.zeros((220, 220), np.uint8), **DISK)
    found = {
        "y": np.array([3.0, 110.0, 5.0, 90.0]),
        "x": np.array([3.0, 110.0, 216.0, 120.0]),
        "score": np.ones(4),
        "label": np.array([0, 1, 2, 1]),
    }
    write_points(found, image, tmp_path / "p.geojson", NAMES)
    write_point_table(found, image, tmp_path / "p.csv", NAMES)
    geometries = [feature["geometry"] for feature in features(tmp_path / "p.geojson")["features"]]
    assert [geometry is None for geometry in geometries] == [True, False, True, False]
    assert geometries[1]["coordinates"] == pytest.approx([-75, 0], abs=1e-6)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["map_x"] == row["map_y"] == "" for row in rows] == [True, False, True, False]
    assert [float(rows[3]["map_x"]), float(rows[3]["map_y"])] == geometries[3]["coordinates"]
    points = read_points(tmp_path / "p.geojson").on(image, NAMES)
    np.testing.assert_allclose(np.stack([points.y, points.x], axis=1), [[110, 110], [90, 120]], atol=2e-3)


def test_points_of_a_slide_are_objects_of_qupath(tmp_path):
    image = Pixels(np.zeros((200, 50), np.uint8), **SLIDE)
    write_points(points(), image, tmp_path / "p.geojson", NAMES)
    write_point_table(points(), image, tmp_path / "p.csv", NAMES)
    feature = features(tmp_path / "p.geojson")["features"][1]
    assert feature["geometry"] == {"type": "Point", "coordinates": [7.125, 100.25]}
    assert feature["properties"]["classification"]["name"] == "gland"
    assert feature["properties"]["measurements"] == {"score": 0.9876543}
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "y,x,score,label,class,length"


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    image = Pixels(np.zeros((20, 50), np.uint8), **UTM)
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        write_points(points(), image, tmp_path / "nowhere" / "p.geojson", NAMES)

    def full(*_, **__):
        raise OutputError("the disk is full")

    monkeypatch.setattr("xt.results.dense_writers.tile", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_mask(image, tmp_path / "m.tif", NAMES, {})
    wrong = points() | {"label": np.array([0, 99, 0])}
    with pytest.raises(IndexError):
        write_points(wrong, image, tmp_path / "p.geojson", NAMES)
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_a_place():
    place = place_of(xt.open_image(np.zeros((3, 3), np.uint8)))
    assert (place.is_map, place.crs_name, place.decimals) == (False, None, 3)
    assert place.coordinates(np.array([1.5]), np.array([2.0])).tolist() == [[2.0, 1.5]]
