import csv
import json

import numpy as np
import pytest
import rasterio

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.prediction.interruption import BATCHES_OF_5, stopped
from tests.shared_data import shared_data
from xt.errors import ConfigError
from xt.labels.box_table import BoxTable
from xt.labels.merge_boxes import boxes_of_image
from xt.prediction.dense_predictor import DensePredictor
from xt.results.box_writers import read_boxes
from xt.streaming.map import Streaming
from xt.tasks.place_results import DenseOptions


@pytest.fixture(scope="module")
def model():
    return dense_model("detection")


def candidates_of(model, image) -> BoxTable:
    return BoxTable.concatenate([table for decoded in model.decode(image) for table in decoded.predictions])


def predicted(model, image, destination, **options) -> BoxTable:
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, destination, DenseOptions(**options))
    return read_boxes(result.files["table"])


def test_boxes_are_what_the_model_says_each_once(model, tmp_path):
    image = xt.open_image(scene())
    candidates = candidates_of(model, image)
    expected = boxes_of_image([candidates], 300, 410, model.head.iou_threshold)
    result = DensePredictor(model, "cpu").predict(image, tmp_path / "scene.v1")
    assert {what: path.name for what, path in result.files.items()} == {
        "boxes": "scene.v1.boxes.geojson", "table": "scene.v1.boxes.csv",
    }  # fmt: skip
    found = read_boxes(result.files["table"])
    assert 100 < len(expected) < len(candidates), "some were found by several cells"
    np.testing.assert_allclose(found.edges, expected.edges, atol=2e-3, rtol=0)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert list(result.counts.values()) == np.bincount(expected.labels, minlength=3).tolist()
    assert (found.edges >= 0).all()
    assert (found.y1.max(), found.x1.max()) == (300, 410), "those at the image's borders are cut there"
    features = json.loads(result.files["boxes"].read_text())["features"]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names == [["sea", "ship", "ice"][label] for label in found.labels]
    assert not (tmp_path / "scene.v1.partial").exists()


def test_how_much_boxes_may_overlap(model, tmp_path):
    image = xt.open_image(scene())
    counts = [
        len(predicted(model, image, tmp_path / "scene", merge_iou=threshold))
        for threshold in (None, 0.6, 0.1, 0.999)
    ]
    assert counts[0] == counts[1], "as the head says"
    assert counts[2] < counts[1] < counts[3]
    with pytest.raises(ConfigError, match="merge_iou must be between 0 and 1, got 1"):
        DenseOptions(merge_iou=1)


def test_boxes_of_low_scores_may_be_left_out(model, tmp_path):
    image = xt.open_image(scene())
    everything = predicted(model, image, tmp_path / "all")
    some = predicted(model, image, tmp_path / "some", least_score=0.7)
    kept = everything.select(everything.scores >= 0.7)
    assert 20 < len(kept) < len(everything)
    np.testing.assert_array_equal(some.edges, kept.edges)
    model.head.score_threshold = 0.05
    try:
        usual = predicted(model, image, tmp_path / "usual")
        every = predicted(model, image, tmp_path / "every", least_score=0)
    finally:
        model.head.score_threshold = 0.65
    np.testing.assert_array_equal(usual.edges, every.select(every.scores >= 0.5).edges)
    assert 0 < len(usual) < len(every)
    with pytest.raises(ConfigError, match=r"least_score must be in \[0, 1\], got 50"):
        DenseOptions(least_score=50)


def test_boxes_around_nothing_are_left_out(tmp_path):
    model = dense_model("detection", head_options={"width": 8, "score_threshold": 0.55})
    pixels = scene()
    pixels[pixels == 127] = 126
    pixels[:100, :150] = 127
    found = {}
    for name, nodata in (("all", None), ("some", 127)):
        boxes = predicted(model, xt.open_image(pixels, nodata=nodata), tmp_path / name)
        y, x = np.floor(boxes.centres.T)
        # The last row and column of nodata lie on the border.
        found[name] = int(((y < 99) & (x < 149)).sum()), len(y)
    assert found["all"][0] > 10, "the model finds boxes there, too"
    assert found["some"][0] == 0
    assert found["some"][1] > 100


@pytest.mark.parametrize("batches", [0, 1, 4])
def test_a_stopped_prediction_goes_on_to_the_same_boxes(model, tmp_path, monkeypatch, batches):
    image = xt.open_image(scene())
    whole = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole")
    stopped(model, image, tmp_path / "scene", batches, monkeypatch)
    assert sorted(path.name for path in tmp_path.glob("scene*")) == ["scene.partial"]
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene")
    for what, path in result.files.items():
        assert path.read_bytes() == whole.files[what].read_bytes()


def test_an_image_without_any_boxes(tmp_path):
    model = dense_model("detection", head_options={"width": 8, "score_threshold": 1.0})
    result = DensePredictor(model, "cpu", Streaming(region_batch=5)).predict(
        scene(100, 100), tmp_path / "scene"
    )
    assert result.counts == {"sea": 0, "ship": 0, "ice": 0}
    assert json.loads(result.files["boxes"].read_text())["features"] == []
    assert len(read_boxes(result.files["table"])) == 0


@pytest.mark.parametrize(
    "name", ["OSBS_029.tif", "2018_SJER_3_252000_4107000_image_477.tif", "australia.tif"]
)
def test_boxes_lie_on_real_maps(model, tmp_path, name):
    path = shared_data(f"neon_trees_deepforest/{name}")
    result = DensePredictor(model, "cpu").predict(path, tmp_path / "trees")
    with rasterio.open(path) as image:
        transform, bounds, epsg = image.transform, image.bounds, image.crs.to_epsg()
    written = json.loads(result.files["boxes"].read_text())
    assert written["crs"]["properties"]["name"] == f"urn:ogc:def:crs:EPSG::{epsg}"
    with result.files["table"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(written["features"]) == len(rows) > 20
    for feature, row in zip(written["features"], rows, strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        corners = [transform @ (float(row[x]), float(row[y])) for y, x in (("y0", "x0"), ("y1", "x1"))]
        east, north = zip(*ring, strict=True)
        pixel = abs(transform.a)
        assert (min(east), max(north)) == pytest.approx(corners[0], abs=2e-3 * pixel)
        assert (max(east), min(north)) == pytest.approx(corners[1], abs=2e-3 * pixel)
        assert bounds.left - pixel < min(east) < max(east) < bounds.right + pixel
        assert bounds.bottom - pixel < min(north) < max(north) < bounds.top + pixel
