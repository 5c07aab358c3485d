import numpy as np
import pytest
import torch

import xt
from tests.shared_data import shared_data
from tests.small_model import small_model
from xt.errors import ConfigError, ImageError, PixelError, ShapeError
from xt.model.cases import Case
from xt.prediction import Predictor
from xt.streaming.map import Streaming

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)


def test_agrees_with_the_model():
    model = small_model().eval()
    found = Predictor(model, "cpu").predict(PIXELS)
    with torch.no_grad():
        logits, relevance = model(xt.open_image(PIXELS), return_relevance=True)
    np.testing.assert_allclose(found.logits, logits[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.weights, relevance.weights[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.probabilities, logits[0].softmax(0).numpy(), rtol=1e-5)
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.label == ["cat", "dog", "eel"][found.probabilities.argmax()]
    assert found.sentence == f"predicted: {found.label} ({found.probabilities.max():.1%})"
    assert (len(found.grid), found.tokens_per_side) == (20, 2)
    assert found.relevance.values.shape == (10, 7)


def test_the_map_is_on_the_image():
    # A model that looks at one token only shows where the map puts it.
    model = small_model()
    weights = Predictor(model, "cpu").predict(PIXELS)
    y, x = np.unravel_index(np.argmax(weights.relevance.values), weights.relevance.values.shape)
    best = weights.grid.token_positions(2)[weights.weights.argmax()]
    assert tuple(best) == (y * 32 + 16, x * 32 + 16)


def test_the_model_is_left_as_it_was():
    model = small_model().train()
    model.region_encoder.eval()
    settings = model.streaming
    before = {name: module.training for name, module in model.named_modules()}
    found = Predictor(model, "cpu", Streaming(region_batch=3)).predict(PIXELS)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert model.streaming is settings
    again = Predictor(model, "cpu").predict(PIXELS)
    # No dropout, and the region batch changes nothing.
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("settings", [{}, {"regions": "by_content"}, {"regions": "by_model"}])
def test_an_image_without_any_data_gets_no_answer(settings):
    blank = xt.open_image(np.zeros((200, 130, 3), np.uint8), nodata=0)
    predictor = Predictor(small_model(**settings), "cpu")
    with pytest.raises(ImageError, match=r"holds no data.*nothing to answer about: leave it out"):
        predictor.predict(blank)
    if not settings:
        # Of a case that has data elsewhere it is a part, as it was in training.
        predictor = Predictor(small_model(case_images=2), "cpu")
        assert predictor.predict(Case([blank, xt.open_image(PIXELS)], "both")).label


def test_progress_counts_regions():
    calls = []
    streaming = Streaming(region_batch=8)
    Predictor(small_model(), "cpu", streaming).predict(PIXELS, lambda *call: calls.append(call))
    assert calls == [(6, 20), (13, 20), (20, 20)]


@pytest.mark.parametrize(
    ("head", "label", "sentence"),
    [
        ("multilabel", "a;c", "predicted: a (73.1%), c (73.1%)"),
        ("regression", "1;-1;1", "predicted: a = 1, b = -1, c = 1"),
    ],
)
def test_other_heads(head, label, sentence):
    model = small_model(head=head, class_names=["a", "b", "c"])
    last = model.head.classifier if head == "multilabel" else model.head.regressor
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([1.0, -1.0, 1.0]))
    found = Predictor(model, "cpu").predict(PIXELS)
    assert (found.label, found.sentence) == (label, sentence)


def test_classes_without_names_are_numbered():
    found = Predictor(small_model(class_names=None), "cpu").predict(PIXELS)
    assert list(found.scores) == ["0", "1", "2"]


def test_wrong_channels():
    with pytest.raises(ShapeError, match="array 300x200x1 has 1 channel, the model takes 3"):
        Predictor(small_model(), "cpu").predict(PIXELS[..., :1])


def test_an_answer_that_is_no_number():
    model = small_model()
    with torch.no_grad():
        model.head.classifier.weight.fill_(torch.nan)
    with pytest.raises(PixelError, match="the model's answer for array 300x200x3 is not a number"):
        Predictor(model, "cpu").predict(PIXELS)


@pytest.mark.parametrize(
    ("device", "expected"),
    [("gpu", "there is no device 'gpu'; use cpu, cuda"), ("cuda:99", "cuda:99 is not there")],
)
def test_a_device_that_is_not_there(device, expected):
    with pytest.raises(ConfigError, match=expected):
        Predictor(small_model(), device)


def test_a_real_geotiff():
    path = shared_data("geotiff_rasterio/RGB.byte.tif")
    found = Predictor(small_model(foreground="nodata"), "cpu").predict(path)
    assert found.name == str(path)
    assert found.relevance.crs == "EPSG:32618"
    # Two corners of this scene hold no data.
    assert np.isnan(found.relevance.values).any()
    assert np.isfinite(found.relevance.values).sum() == len(found.grid) * 4 - _in_padding(found)


def _in_padding(found: "xt.prediction.Prediction") -> int:
    centres = found.grid.token_positions(2) - 16
    return int((centres >= found.relevance.image_shape).any(axis=1).sum())
