"""Predictions that are means over flipped and turned views of an image."""

import csv

import numpy as np
import pytest

import xt
from tests.prediction.dense_models import dense_model
from tests.training.toy import toy_model
from xt.data.encoding import oriented
from xt.errors import ConfigError, OptionError
from xt.images import open_image
from xt.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def image():
    return open_image(np.random.default_rng(0).integers(0, 255, (150, 100, 3), dtype=np.uint8))


@pytest.mark.parametrize("views", [4, 8])
def test_probabilities_are_those_of_the_views_together(image, views):
    model = toy_model(context="none")
    alone = [Predictor(model, "cpu").predict(oriented(image, view)) for view in range(views)]
    heard = []
    found = Predictor(model, "cpu", views=views).predict(
        image, lambda done, total: heard.append((done, total))
    )
    each = np.stack([one.probabilities for one in alone])
    assert found.probabilities == pytest.approx(each.mean(axis=0), abs=1e-6)
    assert found.spread == pytest.approx(each.std(axis=0), abs=1e-6)
    assert found.spread.max() > 0
    np.testing.assert_array_equal(found.relevance.values, alone[0].relevance.values)
    assert heard[-1] == (6 * views, 6 * views)
    assert heard == sorted(heard)


def test_an_image_that_looks_alike_from_all_sides_has_no_spread():
    side = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    side = np.maximum(side, side.transpose(1, 0, 2))
    half = np.concatenate([side, side[::-1]], axis=0)
    whole = np.concatenate([half, half[:, ::-1]], axis=1)
    found = Predictor(toy_model(context="none"), "cpu", views=8).predict(open_image(whole))
    assert found.spread.max() < 1e-6


def test_the_table_tells_and_other_views_are_another_result(image, tmp_path):
    model = toy_model(context="none")
    once, again, four = (
        xt.predict(model, {"one": image}, tmp_path / "out", device="cpu", overlay=False, **options)
        for options in ({}, {"views": 1}, {"views": 4})
    )
    assert "spread" not in once.images[0].values
    with four.table.open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["spread"]) > 0
    assert float(row["probability"]) == max(float(row[name]) for name in row if name.startswith("p_"))
    assert again.images[0].values["probability"] == once.images[0].values["probability"]


def test_views_that_there_are_not_are_refused(image, tmp_path):
    with pytest.raises(ConfigError, match="views must be 1, 4"):
        Predictor(toy_model(), "cpu", views=2)
    with pytest.raises(OptionError, match=r"^views must be 1, 4"):
        xt.predict(toy_model(), {"one": image}, tmp_path, views=3)
    with pytest.raises(
        OptionError, match=r"^views is for .*classification.* but this model's head is 'segmentation'"
    ):
        xt.predict(dense_model("segmentation"), {"one": image}, tmp_path, views=4, device="cpu")
