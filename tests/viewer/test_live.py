"""What is looked at is predicted on request, told as it goes, and stopped when nobody wants it."""

import threading
from time import monotonic, sleep
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.viewer.found_files import answer_model, point_labels, write_scene
from xt.errors import ConfigError
from xt.prediction.leaning import leaned_on
from xt.viewer.jobs import CancelledError, Jobs
from xt.viewer.layers import Filters
from xt.viewer.live import LiveAnswer, LiveModel
from xt.viewer.view import viewer_of
from xt.viewer.viewer import Viewer

WINDOW = (64, 32, 200, 180)


def until_over(job, seconds=120):
    until = monotonic() + seconds
    while not job.is_over:
        assert monotonic() < until, job.told()
        job.told()
        sleep(0.02)
    return job.told()


def viewed(model):
    return Viewer([scene()], live=LiveModel(model))


@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_a_window_is_predicted_as_xt_predict_does(head, tmp_path):
    model = dense_model(head)
    viewer = viewed(model)
    told = until_over(viewer.predict(0, WINDOW))
    assert told["state"] == "done", told["error"]
    (name,) = told["layers"]
    layer = viewer.image(0).layer(name)
    y, x, height, width = WINDOW
    part = scene()[y : y + height, x : x + width]
    result = xt.predict(model, {"part": part}, tmp_path / "found", device="cpu")
    row = result.images[0].values
    if head == "segmentation":
        mask = xt.open_image(tmp_path / "found" / "part.mask.tif").read(0, 0, height, width)[..., 0]
        for place in ((0, 0), (100, 77), (199, 179)):
            said = layer.at(place[0] + y, place[1] + x, Filters(), 0)
            assert said["label"] == mask[place]
        assert layer.at(y - 1, x, Filters(), 0) is None
    else:
        unit = {"points": "points", "detection": "boxes"}[head]
        assert layer.counts(Filters()) == [int(row[f"{unit}({name})"]) for name in ("sea", "ship", "ice")]
        assert told["sentence"]
    assert told["done"] == told["total"] > 0


def test_a_whole_answer_has_scores_and_relevance():
    viewer = viewed(answer_model())
    told = until_over(viewer.predict(0, (0, 0, 9999, 9999)))
    assert told["state"] == "done", told["error"]
    assert told["sentence"].startswith("predicted: ")
    assert sum(told["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert told["layers"] == ["live-relevance"]
    assert told["window"] == [0, 0, 300, 410]
    regions = viewer.leaned_on(0, 10, 10)
    assert sum(region["share"] for region in regions) == pytest.approx(1)
    assert viewer.image(0).value(10, 10)["layers"]["leaning"]["relevance"] >= 0


def test_what_is_there_so_far_is_shown(monkeypatch):
    monkeypatch.setattr("xt.viewer.live._SECONDS_BETWEEN_PICTURES", 0)
    model, seen = LiveModel(dense_model("segmentation")), []
    model.predict(xt.open_image(scene()), (0, 0, 300, 410), lambda *done: None, seen.append)
    known = [sum((layer.shown.raster.read(0, 0, 300, 410) != 255).sum() for layer in some) for some in seen]
    assert len(known) > 3
    assert known == sorted(known)
    assert known[0] < known[-1] == 300 * 410


@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_an_answer_leans_on_what_changes_it(head):
    """The region with the largest share matters: without its tokens the answer is another one."""
    model = dense_model(head)
    image = xt.open_image(scene(192, 192))
    relevance = leaned_on(model, image, 70.0, 100.0).relevance
    assert relevance.values.shape == (6, 6)
    assert np.isfinite(relevance.values).all()
    assert relevance.values.max() > 1.2
    # An answer leans on what stands before it in the sequence, or after it, too; not on the same everywhere.
    elsewhere = leaned_on(model, image, 10.0, 10.0).relevance
    assert not np.allclose(relevance.values, elsewhere.values)


def test_a_model_without_context_leans_on_one_region():
    model = dense_model("segmentation", context="none", context_options={})
    with pytest.raises(ConfigError, match="has no context encoder"):
        leaned_on(model, xt.open_image(scene()), 5, 5)


def test_the_grid_tells_what_is_skipped():
    pixels = scene()
    pixels[:, 128:] = 255
    viewer = Viewer([pixels], live=LiveModel(answer_model(foreground="tissue")))
    legend = viewer.show_grid(0)
    counts = {entry["name"]: entry["count"] for entry in legend["classes"]}
    assert counts["read"] + counts["skipped"] == 5 * 7
    assert counts["skipped"] > 0


def waiting_jobs(patience=15.0):
    """Jobs of which the first goes on until it is stopped."""
    shown, steps = [], threading.Semaphore(0)

    def predict(progress, show):
        for done in range(10_000):
            progress("predict", done, 10_000)
            steps.release()
            sleep(0.005)
        return LiveAnswer(sentence="", scores={}, layers=())

    jobs = Jobs(lambda image, layers: shown.append(image), patience)
    job = jobs.start(0, (0, 0, 1, 1), predict)
    steps.acquire()
    return jobs, job, predict


def test_a_prediction_is_cancelled_and_the_next_goes_on():
    jobs, job, _ = waiting_jobs()
    second = jobs.start(0, (0, 0, 1, 1), lambda *how: LiveAnswer(sentence="yes", scores={}, layers=()))
    assert second.told()["state"] == "waiting"
    jobs.cancel(job.number)
    assert until_over(job)["state"] == "cancelled"
    assert until_over(second)["sentence"] == "yes"


def test_a_client_that_goes_away_cancels():
    _, job, _ = waiting_jobs(patience=0.2)
    until = monotonic() + 30
    while not job.is_over and monotonic() < until:
        sleep(0.02)
    assert job.state == "cancelled"


def test_whatever_goes_wrong_is_told_and_the_thread_lives():
    jobs = Jobs(lambda image, layers: None)

    def broken(progress, show):
        raise RuntimeError("the device is on fire")

    assert "on fire" in until_over(jobs.start(0, (0, 0, 1, 1), broken))["error"]
    fine = jobs.start(0, (0, 0, 1, 1), lambda *how: LiveAnswer(sentence="yes", scores={}, layers=()))
    assert until_over(fine)["state"] == "done"


def test_a_real_prediction_stops_at_its_next_regions():
    model, stopped = LiveModel(dense_model("segmentation")), []

    def progress(what, done, total):
        stopped.append((what, done))
        if what == "decode":
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        model.predict(xt.open_image(scene()), (0, 0, 300, 410), progress)
    assert stopped[-1][0] == "decode"
    # The model is as it was.
    model.predict(xt.open_image(scene()), (0, 0, 64, 64), lambda *done: None)


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (-50, 0, 50, 50), (300, 0, 10, 10), (0, 410, 5, 5)])
def test_a_window_without_pixels(window):
    with pytest.raises(ConfigError, match="has no pixel"):
        viewed(answer_model()).predict(0, window)


def test_without_a_model_nothing_is_predicted():
    with pytest.raises(ConfigError, match="no model to predict with"):
        Viewer([scene()]).predict(0, WINDOW)


def test_labels_are_read_in_the_order_of_the_model_s_classes(tmp_path):
    model = dense_model("points")
    model.save(tmp_path / "model.safetensors")
    write_scene(tmp_path / "scene.png")
    table = point_labels(tmp_path, [(5.0, 6.0, "ice"), (50.0, 60.0, "ship")])
    viewer = viewer_of(str(tmp_path / "scene.png"), model=tmp_path / "model.safetensors", labels=table)
    assert viewer.labels.class_names == ("sea", "ship", "ice")
    assert viewer.image(0).layer("labels").counts(Filters()) == [0, 1, 1]
    assert until_over(viewer.predict(0, (0, 0, 64, 64)))["state"] == "done"


@pytest.mark.parametrize(("unit", "expected"), [("pixels", 6.0), ("map", 3.0), (None, None)])
def test_points_are_one_as_the_run_was_evaluated(monkeypatch, tmp_path, unit, expected):
    run = SimpleNamespace(evaluation=SimpleNamespace(distance=6.0, distance_unit=unit))
    monkeypatch.setattr("xt.viewer.live.run_of", lambda source: None if unit is None else run)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000)}
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", height=80, width=90, count=3, dtype="uint8", **place
    ) as file:
        file.write(np.ones((3, 80, 90), np.uint8))
    assert LiveModel(dense_model("points")).reach(xt.open_image(tmp_path / "map.tif")) == expected


def test_of_a_model_that_chooses_what_it_has_looked_at_is_a_layer_where_it_lies():
    viewer = viewed(answer_model(regions="by_content", regions_options={"budget": 0.5}))
    told = until_over(viewer.predict(0, WINDOW))
    assert told["state"] == "done", told["error"]
    assert told["layers"] == ["live-relevance", "live-regions"]
    layer = viewer.image(0).layer("live-regions")
    y, x, _, width = WINDOW
    boxes = [layer.told(row)["box"] for row in range(len(layer.shown))]
    assert min(box[0] for box in boxes) == y
    assert max(box[3] for box in boxes) == x + width
    assert layer.at(y + 5, x + 5, Filters(), 0)["class"].startswith("scale ")
