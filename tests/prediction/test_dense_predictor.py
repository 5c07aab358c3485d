import json

import numpy as np
import pytest
import rasterio
import torch

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.prediction.interruption import BATCHES_OF_5, pixels_of
from tests.shared_data import shared_data
from tests.small_model import small_model
from xt.errors import ConfigError, PixelError
from xt.prediction.dense_predictor import DensePredictor
from xt.streaming.map import Streaming
from xt.tasks.place_results import DenseOptions


@pytest.fixture(scope="module")
def model():
    return dense_model()


def probabilities_of(model, image) -> np.ndarray:
    """(K, height, width): everything decoded at once and laid out in memory."""
    grid = model.grid(image)
    size = grid.region_size
    whole = np.full((3, grid.rows * size, grid.columns * size), np.nan, np.float32)
    for decoded in model.decode(image):
        for region, values in zip(decoded.regions, decoded.predictions.numpy(), strict=True):
            whole[:, region.y : region.y + size, region.x : region.x + size] = values
    return whole[:, : image.shape[0], : image.shape[1]]


def test_a_mask_and_its_probabilities_are_what_the_model_says(model, tmp_path):
    image = xt.open_image(scene())
    expected = probabilities_of(model, image)
    calls = []
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(
        image, tmp_path / "scene.v1", DenseOptions(probabilities=True), lambda *call: calls.append(call)
    )
    assert {what: path.name for what, path in result.files.items()} == {
        "mask": "scene.v1.mask.tif", "probabilities": "scene.v1.probabilities.tif",
    }  # fmt: skip
    mask = pixels_of(result.files["mask"])[0]
    found = pixels_of(result.files["probabilities"])
    # Other region batches round otherwise: classes may change where two are equally likely.
    likeliest = np.sort(expected, axis=0)[::-1]
    clear = likeliest[0] - likeliest[1] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(mask[clear], expected.argmax(axis=0)[clear])
    np.testing.assert_allclose(found / 254, expected, atol=0.501 / 254)
    assert result.counts == {
        name: int((mask == label).sum()) for label, name in enumerate(["sea", "ship", "ice"])
    }
    assert min(result.counts.values()) > 1000, "the test image has all classes"
    assert not (tmp_path / "scene.v1.partial").exists()
    regions = len(model.grid(image))
    for what, unit in (("encode", regions), ("decode", regions), ("write", 100)):
        done = [call[1:] for call in calls if call[0] == what]
        assert [number for number, _ in done] == sorted(number for number, _ in done)
        assert done[-1] == (unit, unit)


def test_the_order_of_the_regions_changes_nothing(tmp_path):
    masks = []
    for order in ("raster", "hilbert"):
        model = dense_model(order=order, context="none", context_options={})
        # One region at a time, so that all are computed in the same way.
        predictor = DensePredictor(model, "cpu", Streaming(region_batch=1))
        masks.append(pixels_of(predictor.predict(scene(), tmp_path / order).files["mask"]))
    np.testing.assert_array_equal(*masks)
    assert len(np.unique(masks[0])) == 3


def test_skipped_regions_and_pixels_without_data_are_nodata(tmp_path):
    model = dense_model(foreground="nodata")
    pixels = scene()
    pixels[:, 150:] = np.maximum(pixels[:, 150:], 1)
    pixels[:100, :150] = 0
    image = xt.open_image(pixels, nodata=0)
    skipped = len(model.grid(image))
    result = DensePredictor(model, "cpu").predict(image, tmp_path / "scene")
    mask = pixels_of(result.files["mask"])[0]
    assert skipped < 35, "regions without any data are not looked at"
    np.testing.assert_array_equal(mask == 255, (pixels == 0).all(axis=-1))
    assert sum(result.counts.values()) == (mask != 255).sum()


def test_answers_that_are_no_numbers(tmp_path):
    model = dense_model()
    with torch.no_grad():
        model.head.predict.weight.fill_(torch.nan)
    with pytest.raises(PixelError, match="the model's answer for array 300x410x3 is not a number"):
        DensePredictor(model, "cpu").predict(scene(), tmp_path / "scene")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.partial"]


def test_the_model_is_left_as_it_was(tmp_path):
    model = dense_model().train()
    settings = model.streaming
    DensePredictor(model, "cpu", BATCHES_OF_5).predict(scene(100, 100), tmp_path / "scene")
    assert all(module.training for module in model.modules())
    assert model.streaming is settings


def test_models_of_other_tasks(model, tmp_path):
    with pytest.raises(
        ConfigError, match="models with the head segmentation or points or detection, this one's is 'class"
    ):
        DensePredictor(small_model(), "cpu")
    with pytest.raises(ConfigError, match="answers about every place"):
        xt.Predictor(model, "cpu").predict(scene())
    many = dense_model(num_classes=256, class_names=None)
    with pytest.raises(
        ConfigError, match=r"masks have 8 bits, for 255 classes and .* this model has 256 classes"
    ):
        DensePredictor(many, "cpu")
    with pytest.raises(ConfigError, match="least_area must be at least 1 pixel, got 0"):
        DenseOptions(least_area=0)


def test_a_real_slide(tmp_path):
    import openslide

    path = shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")
    model = dense_model(region_size=256, foreground="tissue")
    result = DensePredictor(model, "cpu").predict(
        path, tmp_path / "slide", DenseOptions(outlines=(2,), least_area=50)
    )
    with openslide.OpenSlide(path) as slide, openslide.OpenSlide(result.files["mask"]) as mask:
        assert mask.dimensions == slide.dimensions
        assert mask.level_count >= 3
    with xt.open_image(path) as slide, xt.open_image(result.files["mask"]) as mask:
        assert mask.microns_per_pixel == pytest.approx(slide.microns_per_pixel, rel=1e-4)
        labels = mask.read(0, 0, *mask.shape)[..., 0]
    features = json.loads(result.files["outlines"].read_text())["features"]
    assert {feature["properties"]["objectType"] for feature in features} == {"detection"}
    areas = [feature["properties"]["measurements"]["area_px"] for feature in features]
    assert 0.9 * (labels == 2).sum() < sum(areas) <= (labels == 2).sum()


def test_a_real_geotiff(tmp_path):
    path = shared_data("geotiff_rasterio/RGB.byte.tif")
    result = DensePredictor(dense_model(region_size=256), "cpu").predict(path, tmp_path / "scene")
    with rasterio.open(path) as image, rasterio.open(result.files["mask"]) as mask:
        assert (mask.crs, mask.transform, mask.shape) == (image.crs, image.transform, image.shape)
        # Its two corners without data have no class.
        np.testing.assert_array_equal(mask.read(1) == 255, (image.read() == image.nodata).all(axis=0))
