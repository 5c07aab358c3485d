import csv
import json

import numpy as np
import pytest

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.prediction.interruption import BATCHES_OF_5, stopped
from xt.errors import ConfigError
from xt.labels.merge_points import merge_points
from xt.labels.point_table import PointTable
from xt.prediction.dense_predictor import DensePredictor
from xt.tasks.place_results import DenseOptions


@pytest.fixture(scope="module")
def model():
    return dense_model("points")


def tables_of(model, image) -> list[PointTable]:
    return [table for decoded in model.decode(image) for table in decoded.predictions]


def test_points_are_what_the_model_says_each_once(model, tmp_path):
    image = xt.open_image(scene())
    found = PointTable.concatenate(tables_of(model, image)).within(0, 0, 300, 410)
    expected = found.select(merge_points(found.y, found.x, found.scores, 6.0))
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene")
    assert 20 < len(expected) < len(found), "some lie on both sides of a border"
    with result.files["table"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, values in {"y": expected.y, "x": expected.x, "length": expected.attributes["length"]}.items():
        np.testing.assert_allclose([float(row[column]) for row in rows], values, rtol=1e-4, atol=2e-3)
    features = json.loads(result.files["points"].read_text())["features"]
    assert len(features) == len(rows) == sum(result.counts.values())
    assert {feature["properties"]["classification"]["name"] for feature in features} <= {"sea", "ship", "ice"}
    everything = DensePredictor(model, "cpu").predict(image, tmp_path / "scene", DenseOptions(merge_radius=0))
    assert sum(everything.counts.values()) == len(found)


def test_points_where_the_image_has_no_data_are_left_out(model, tmp_path):
    pixels = np.maximum(scene(), 1)
    pixels[:100, :150] = 0
    found = {}
    for name, nodata in (("all", None), ("some", 0)):
        image = xt.open_image(pixels, nodata=nodata)
        result = DensePredictor(model, "cpu").predict(image, tmp_path / name, DenseOptions(merge_radius=0))
        with result.files["table"].open(newline="") as file:
            found[name] = {(float(row["y"]), float(row["x"])) for row in csv.DictReader(file)}
    empty = {(y, x) for y, x in found["all"] if y < 100 and x < 150}
    assert empty, "the model finds points there, too"
    assert not {(y, x) for y, x in found["some"] if y < 100 and x < 150}
    assert len(found["some"]) > 20


def test_points_go_on_too(model, tmp_path, monkeypatch):
    image = xt.open_image(scene())
    whole = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole")
    stopped(model, image, tmp_path / "scene", 3, monkeypatch)
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene")
    for what, path in result.files.items():
        assert path.read_bytes() == whole.files[what].read_bytes()


def test_points_of_low_scores_may_be_left_out(model, tmp_path):
    scores = {}
    for least in (0.0, 0.7):
        result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(
            scene(), tmp_path / "scene", DenseOptions(least_score=least)
        )
        with result.files["table"].open(newline="") as file:
            scores[least] = [(row["y"], row["x"], row["score"]) for row in csv.DictReader(file)]
    assert scores[0.7] == [point for point in scores[0.0] if float(point[2]) >= 0.7]
    assert 0 < len(scores[0.7]) < len(scores[0.0])


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("points", {"merge_radius": -1.0}, "merge_radius must be at least 0 pixels, got -1.0"),
        ("points", {"merge_radius": float("nan")}, "merge_radius must be at least 0 pixels, got nan"),
        ("segmentation", {"outlines": (3,)}, "there is no class 3 to outline: the classes are 0 to 2"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, head, options, message):
    with pytest.raises(ConfigError, match=message):
        DensePredictor(dense_model(head), "cpu").predict(
            scene(70, 70), tmp_path / "scene", DenseOptions(**options)
        )
    assert list(tmp_path.iterdir()) == []


def test_an_attribute_cannot_take_the_name_of_a_column():
    with pytest.raises(
        ConfigError, match=r"an attribute cannot be called 'score', as y, x, .* meaning already"
    ):
        dense_model("points", head_options={"attributes": {"score": "number"}})
