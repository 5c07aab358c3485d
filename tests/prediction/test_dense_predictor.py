import csv
import json
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.shared_data import shared_data
from tests.small_model import small_model
from xt.errors import ConfigError, OutputError, PixelError
from xt.heads.point_table import PointTable
from xt.prediction.dense_predictor import DensePredictor
from xt.prediction.dense_task import DenseOptions
from xt.prediction.merge_points import merge_points
from xt.streaming import Streaming

BATCHES_OF_5 = Streaming(region_batch=5)
PLAIN = DenseOptions()


@pytest.fixture(scope="module")
def model():
    return dense_model()


@pytest.fixture(scope="module")
def points_model():
    return dense_model("points")


def pixels_of(path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            return file.read()


def probabilities_of(model, image) -> np.ndarray:
    """(K, height, width): everything decoded at once and laid out in memory."""
    grid = model.grid(image)
    size = grid.region_size
    whole = np.full((3, grid.rows * size, grid.columns * size), np.nan, np.float32)
    for decoded in model.decode(image):
        for region, values in zip(decoded.regions, decoded.predictions.numpy(), strict=True):
            whole[:, region.y : region.y + size, region.x : region.x + size] = values
    return whole[:, : image.shape[0], : image.shape[1]]


def tables_of(model, image) -> list[PointTable]:
    return [table for decoded in model.decode(image) for table in decoded.predictions]


class StopsAfter:
    """A model's `decode` that fails behind some region batches, as if the machine went down."""

    def __init__(self, model, batches: int) -> None:
        self.decode, self.batches = model.decode, batches

    def __call__(self, *arguments, **options):
        for number, decoded in enumerate(self.decode(*arguments, **options)):
            if number == self.batches:
                raise RuntimeError("the lights went out")
            yield decoded


def stopped(model, image, destination, batches: int, monkeypatch, **options) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", StopsAfter(model, batches))
        with pytest.raises(RuntimeError, match="the lights went out"):
            DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, destination, **options)


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


def test_points_are_what_the_model_says_each_once(points_model, tmp_path):
    image = xt.open_image(scene())
    found = PointTable.concatenate(tables_of(points_model, image)).within(0, 0, 300, 410)
    expected = found.select(merge_points(found.y, found.x, found.scores, 6.0))
    result = DensePredictor(points_model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene")
    assert 20 < len(expected) < len(found), "some lie on both sides of a border"
    with result.files["table"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, values in {"y": expected.y, "x": expected.x, "length": expected.attributes["length"]}.items():
        np.testing.assert_allclose([float(row[column]) for row in rows], values, rtol=1e-4, atol=2e-3)
    features = json.loads(result.files["points"].read_text())["features"]
    assert len(features) == len(rows) == sum(result.counts.values())
    assert {feature["properties"]["classification"]["name"] for feature in features} <= {"sea", "ship", "ice"}
    everything = DensePredictor(points_model, "cpu").predict(
        image, tmp_path / "scene", DenseOptions(merge_radius=0)
    )
    assert sum(everything.counts.values()) == len(found)


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


def test_points_where_the_image_has_no_data_are_left_out(points_model, tmp_path):
    pixels = np.maximum(scene(), 1)
    pixels[:100, :150] = 0
    found = {}
    for name, nodata in (("all", None), ("some", 0)):
        image = xt.open_image(pixels, nodata=nodata)
        result = DensePredictor(points_model, "cpu").predict(
            image, tmp_path / name, DenseOptions(merge_radius=0)
        )
        with result.files["table"].open(newline="") as file:
            found[name] = {(float(row["y"]), float(row["x"])) for row in csv.DictReader(file)}
    empty = {(y, x) for y, x in found["all"] if y < 100 and x < 150}
    assert empty, "the model finds points there, too"
    assert not {(y, x) for y, x in found["some"] if y < 100 and x < 150}
    assert len(found["some"]) > 20


@pytest.mark.parametrize("batches", [0, 1, 4, 6])
def test_a_stopped_prediction_goes_on_where_it_was(model, tmp_path, monkeypatch, batches):
    image = xt.open_image(scene())
    options = DenseOptions(probabilities=True)
    whole = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole", options)
    stopped(model, image, tmp_path / "scene", batches, monkeypatch, options=options)
    assert sorted(path.name for path in tmp_path.glob("scene*")) == ["scene.partial"]
    firsts = []
    decode = model.decode

    def decode_from(*arguments, **given):
        firsts.append(given["first_batch"])
        return decode(*arguments, **given)

    monkeypatch.setattr(model, "decode", decode_from)
    monkeypatch.setattr(model, "context", None)
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene", options)
    assert firsts == [batches], "and the tokens are not computed again"
    for what, path in result.files.items():
        np.testing.assert_array_equal(pixels_of(path), pixels_of(whole.files[what]))
    assert sorted(path.name for path in tmp_path.glob("scene*")) == [
        "scene.mask.tif", "scene.mask.tif.aux.xml", "scene.probabilities.tif",
    ]  # fmt: skip


def test_points_go_on_too(points_model, tmp_path, monkeypatch):
    image = xt.open_image(scene())
    whole = DensePredictor(points_model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole")
    stopped(points_model, image, tmp_path / "scene", 3, monkeypatch)
    result = DensePredictor(points_model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene")
    for what, path in result.files.items():
        assert path.read_bytes() == whole.files[what].read_bytes()


def test_a_region_batch_in_pieces_is_stored_whole(model, tmp_path, monkeypatch):
    # As it comes where the device ran out of memory.
    image = xt.open_image(scene())
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5)
    whole = predictor.predict(image, tmp_path / "whole")
    decode = model.decode

    def in_pieces(*arguments, **given):
        for regions, predictions in decode(*arguments, **given):
            for start in range(0, len(regions), 2):
                yield regions[start : start + 2], predictions[start : start + 2]

    monkeypatch.setattr(model, "decode", in_pieces)
    result = predictor.predict(image, tmp_path / "scene")
    np.testing.assert_array_equal(pixels_of(result.files["mask"]), pixels_of(whole.files["mask"]))


def test_what_does_not_belong_together_is_not_mixed(model, tmp_path, monkeypatch):
    path = tmp_path / "scene.png"
    Image.fromarray(scene()).save(path)
    stopped(model, path, tmp_path / "scene", 3, monkeypatch)

    def refused(expected: str, other=model, streaming=BATCHES_OF_5, options=PLAIN) -> None:
        with pytest.raises(
            OutputError, match=f"unfinished prediction with another {expected}, which cannot be"
        ):
            DensePredictor(other, "cpu", streaming).predict(path, tmp_path / "scene", options)

    other = dense_model()
    with torch.no_grad():
        other.head.predict.bias[0] += 1
    refused("model", other)
    refused("region batch", streaming=Streaming(region_batch=7))
    refused("choice of results", options=DenseOptions(probabilities=True))
    os.utime(path, ns=(1, 1))
    refused("image")
    result = DensePredictor(model, "cpu").predict(path, tmp_path / "scene", DenseOptions(restart=True))
    assert not (tmp_path / "scene.partial").exists()
    whole = DensePredictor(model, "cpu").predict(path, tmp_path / "whole")
    np.testing.assert_array_equal(pixels_of(result.files["mask"]), pixels_of(whole.files["mask"]))


def test_a_region_batch_that_nobody_chose_is_taken_from_what_is_there(model, tmp_path, monkeypatch):
    image = xt.open_image(scene())
    stopped(model, image, tmp_path / "scene", 3, monkeypatch)
    used = []
    decode = model.decode

    def decode_with(*arguments, **given):
        used.append((model.streaming.region_batch, given["first_batch"]))
        return decode(*arguments, **given)

    monkeypatch.setattr(model, "decode", decode_with)
    DensePredictor(model, "cpu").predict(image, tmp_path / "scene")
    assert used == [(5, 3)]


def test_an_array_of_other_pixels_is_another_image(model, tmp_path, monkeypatch):
    stopped(model, xt.open_image(scene()), tmp_path / "scene", 1, monkeypatch)
    with pytest.raises(OutputError, match="another image, which"):
        DensePredictor(model, "cpu", BATCHES_OF_5).predict(scene()[::-1].copy(), tmp_path / "scene")


def test_answers_that_are_no_numbers(tmp_path):
    model = dense_model()
    with torch.no_grad():
        model.head.predict.weight.fill_(torch.nan)
    with pytest.raises(PixelError, match="the model's answer for array 300x410x3 is not a number"):
        DensePredictor(model, "cpu").predict(scene(), tmp_path / "scene")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.partial"]


def test_a_disk_without_room_is_noticed_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
    with pytest.raises(
        OutputError, match=r"scene\.partial will take 0\.000143 GB until .* only 0\.0001 GB are free"
    ):
        DensePredictor(model, "cpu").predict(scene(), tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []


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


KILLED = """
import os, random, signal, sys, time, torch
from pathlib import Path
from tests.prediction.dense_models import dense_model, scene
from xt.prediction.dense_task import DenseOptions
from xt.prediction.dense_predictor import DensePredictor
from xt.streaming import Streaming

torch.set_num_threads(1)
folder = Path(sys.argv[1])
model, image = dense_model(), scene(600, 700)
predictor = DensePredictor(model, "cpu", Streaming(region_batch=3, threads=1), checkpoint="abc")
options = DenseOptions(probabilities=True, outlines=(1, 2))

def run(name, events=None):
    "In a process of its own, killed a moment after so many steps of progress; whether it came to its end."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        predictor.predict(image, folder / name, options, lambda *step: os.write(writer, b"."))
        os._exit(0)
    os.close(writer)
    while events is None or events > 0:
        if not os.read(reader, 1):
            break
        events = None if events is None else events - 1
    else:
        time.sleep(random.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.waitpid(child, 0)[1] == 0

run("whole")
random.seed(0)
kills, batches = 0, []
while kills < 10:
    partial = folder / "scene.partial"
    # The encoding takes 37 steps, the decoding as many, and the writing some more.
    if run("scene", random.randint(0, 15 if (partial / "context.pt").exists() else 50)):
        for path in folder.glob("scene*"):
            path.unlink()
        continue
    kills += 1
    journal = partial / "journal"
    batches.append(journal.stat().st_size // 24 if journal.exists() else -1)
print(run("scene"), *batches)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and sends signals")
def test_killed_ten_times_at_random_the_result_is_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout.split()  # fmt: skip
    assert done[0] == "True"
    batches = [int(size) for size in done[1:]]
    assert len(batches) == 10
    assert len({number for number in batches if number > 0}) >= 3, "it went on from kill to kill"
    for ending in (".mask.tif", ".probabilities.tif"):
        np.testing.assert_array_equal(
            pixels_of(tmp_path / f"scene{ending}"), pixels_of(tmp_path / f"whole{ending}")
        )
    outlines = [(tmp_path / f"{name}.outlines.geojson").read_bytes() for name in ("scene", "whole")]
    assert outlines[0] == outlines[1]
    left = {path.name for path in tmp_path.iterdir()} - {path.name for path in tmp_path.glob("whole*")}
    assert left == {path.name.replace("whole", "scene") for path in tmp_path.glob("whole*")}, (
        "nothing else is left"
    )


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
