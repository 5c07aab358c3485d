"""Real trainings of small dense models: they learn, are measured on whole images, and go on where they were."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from lightning.pytorch import Callback

from tests.training.dense_toy import CLASSES, dense_config, dense_table
from tests.training.toy import toy_config
from xt.cli.main import main
from xt.data.dataset import Reading
from xt.errors import ConfigError, TableError
from xt.heads import PointTable
from xt.images import open_image
from xt.regions.grid import Region
from xt.tasks import TASKS, evaluate
from xt.tasks.points import PointEvaluation
from xt.testing.xview3_scene import make_scenes
from xt.training.comparison import compare
from xt.training.run import RunResult, train
from xt.training.tables import load_table


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_table(tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def segmented(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    torch.set_num_threads(1)
    return train(dense_config(dense, tmp_path_factory.mktemp("segmented") / "run", train={"epochs": 4}))


@pytest.fixture(scope="module")
def pointed(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    torch.set_num_threads(1)
    return train(dense_config(dense, tmp_path_factory.mktemp("pointed") / "run", "points"))


def test_masks_are_learned(segmented: RunResult) -> None:
    assert segmented.metrics["test"]["mean_iou"] > 0.8
    # 8 images, 3 windows of each, 2 windows a step.
    assert segmented.metrics["steps"] == 4 * 12
    assert tuple(segmented.config.model.class_names or ()) == CLASSES
    assert [row["val/mean_iou"] > 0 for row in segmented.curves] == [True] * 4
    best = max(row["val/mean_iou"] for row in segmented.curves)
    assert segmented.metrics["validation"]["mean_iou"] == pytest.approx(best)


def test_points_are_learned(pointed: RunResult) -> None:
    assert pointed.metrics["test"]["best_f1"] > 0.8
    assert tuple(pointed.config.model.class_names or ()) == ("disc", "square")
    best = max(row["val/best_f1"] for row in pointed.curves)
    assert pointed.metrics["validation"]["best_f1"] == pytest.approx(best)


def test_masks_are_measured_as_by_hand(segmented: RunResult, dense: Path) -> None:
    """The plain twin: the whole mask at once, in NumPy."""
    model = segmented.model.eval()
    hits, sizes = np.zeros(3), np.zeros(3)
    for number in range(2):
        image = open_image(dense.parent / f"test_{number}.tif")
        found = np.zeros((192, 192), np.int64)
        for decoded in model.decode(image):
            for region, classes in zip(decoded.regions, decoded.predictions.argmax(dim=1), strict=True):
                found[region.y : region.y + 64, region.x : region.x + 64] = classes
        true = tifffile.imread(dense.parent / f"test_{number}_mask.tif")
        for label in range(3):
            both = (found[:150, :170] == label) & (true == label)
            hits[label] += both.sum()
            sizes[label] += (found[:150, :170] == label).sum() + (true == label).sum()
        image.close()
    for label, name in enumerate(CLASSES):
        dice = 2 * hits[label] / sizes[label]
        assert segmented.metrics["test"][f"dice({name})"] == pytest.approx(dice, abs=1e-6)


class _Saying:
    """Says the same points of every image; some twice, one outside of it."""

    def __init__(self, model: Any, found: PointTable) -> None:
        self.model, self.found = model, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def decode(self, image: Any, **_: Any) -> Any:
        yield [Region(0, 0, 64, 64)] * 2, [self.found, self.found.shifted(1.0, 0.0)]


def test_points_are_merged_and_matched_by_distance_in_pixels_or_on_the_map(
    pointed: RunResult, tmp_path: Path
) -> None:
    import rasterio

    place = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)
    profile = {
        "driver": "GTiff",
        "height": 90,
        "width": 90,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32616",
    }
    with rasterio.open(tmp_path / "a.tif", "w", transform=place, **profile) as file:
        file.write(np.zeros((3, 90, 90), np.uint8))
    (tmp_path / "a.csv").write_text("y,x,label\n20,20,disc\n60,60,square\n60,20,disc\n")
    (tmp_path / "t.csv").write_text("image,points\na.tif,a.csv\n")
    # Found: the first disc 4 pixels off; the square with the wrong class; and one beyond the image.
    found = PointTable(
        y=np.array([20.0, 60.0, 95.0]), x=np.array([24.0, 60.0, 5.0]), labels=np.array([0, 0, 0]),
        scores=np.array([0.9, 0.6, 0.9]),
    )  # fmt: skip
    config = pointed.config
    data = dense_config(tmp_path / "t.csv", tmp_path, "points").data
    table = load_table(data, config.labels, config.model, ("disc", "square"))
    reading = Reading(region_size=64)
    model: Any = _Saying(pointed.model, found)

    def measured(**settings: Any) -> dict[str, float]:
        return TASKS["points"].evaluate(model, table, reading, PointEvaluation(**settings)).metrics

    # 1 of 2 found discs is right, 1 of 2 true ones is found; the square is missed.
    near = measured(distance=4.0)
    assert near["precision(disc)"] == near["recall(disc)"] == 0.5
    assert near["f1"] == pytest.approx(2 / 5)
    assert near["best_f1"] == pytest.approx(2 / 4)
    assert near["best_threshold"] == pytest.approx(0.65)
    assert measured(distance=3.9)["f1"] == 0
    assert measured(distance=40.0, distance_unit="map")["f1"] == pytest.approx(2 / 5)
    assert measured(distance=39.0, distance_unit="map")["f1"] == 0
    assert measured(distance=4.0, score_threshold=0.7)["f1"] == pytest.approx(2 / 4)


def test_a_distance_on_the_map_needs_a_map(pointed: RunResult, dense: Path) -> None:
    trained = pointed.config
    table = load_table(trained.data, trained.labels, trained.model, ("disc", "square")).split("test")
    config = PointEvaluation(distance_unit="map")
    with pytest.raises(
        ConfigError, match=r"distance_unit is 'map', but .*test_0\.tif does not say where it lies"
    ):
        evaluate(pointed.model, table, Reading(region_size=64), config)


def test_evaluate_on_the_command_line(
    segmented: RunResult, dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e"
    assert main(["evaluate", str(segmented.folder), str(dense), "--out", str(out), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert f"the 2 images of the split 'test' of {dense}" in printed
    assert "dice(square)" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == pytest.approx(segmented.metrics["test"])
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["test_0.tif", "test_1.tif"]
    # Images of one size: the share of right pixels is the mean of theirs.
    shares = [float(row["pixel_accuracy"]) for row in rows]
    assert metrics["pixel_accuracy"] == pytest.approx(np.mean(shares), abs=1e-5)


def test_evaluate_points_with_settings_of_the_command_line(
    pointed: RunResult, dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(pointed.folder), str(dense), "--device", "cpu", "--out", str(tmp_path / "e")]
    assert main([*command, "--score-threshold", "0.99", "--distance", "5"]) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["best_f1"] == pytest.approx(pointed.metrics["test"]["best_f1"])
    assert metrics["f1"] < metrics["best_f1"]
    assert main([*command, "--score-threshold", "2"]) == 2
    assert "score_threshold must be in [0, 1]" in capsys.readouterr().err


class _Break(Callback):
    """Ends a run as a power cut would."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 2:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("head", ["segmentation", pytest.param("points", marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(dense: Path, tmp_path: Path, head: str) -> None:
    sections: dict[str, Any] = {
        "model": {
            "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 16], "drop_path_rate": 0.3},
            "context": "full", "context_options": {"depth": 1}, "dim": 16,
        },
        "data": {"augmentation": {"train_size": 96, "label_centred": 0.5, "windows": 1, "brightness": 0.2}},
    }  # fmt: skip
    whole = train(
        dense_config(dense, tmp_path / "whole", head, train={"epochs": 2}, **sections), evaluate_test=False
    )
    config = dense_config(dense, tmp_path / "cut", head, train={"epochs": 2, "resume": "auto"}, **sections)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, callbacks=[_Break()])
    torch.manual_seed(12345)
    resumed = train(config, evaluate_test=False)
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    ]
    for name, value in last[0].items():
        assert torch.equal(value, last[1][name]), name
    assert [row["train/loss"] for row in whole.curves] == [row["train/loss"] for row in resumed.curves]


def test_xview3_scenes_train_without_a_table(tmp_path: Path) -> None:
    labels = make_scenes(tmp_path / "scenes", 2, height=200, width=220, vessels=12, structures=3, seed=3)
    (tmp_path / "val.csv").write_text(labels.read_text().replace("scene000v", "elsewhere"))
    (tmp_path / "train.csv").write_text(labels.read_text().replace("scene001v", "elsewhere"))
    config = dense_config(
        tmp_path, tmp_path / "run", "points",
        model={
            "in_channels": 2,
            "head_options": {"width": 8, "attributes": {"is_vessel": "yes_no", "length": "number"}},
        },
        data={
            "table": None, "scenes": str(tmp_path / "scenes"),
            "scene_labels": [str(tmp_path / "train.csv"), str(tmp_path / "val.csv")],
        },
        train={"epochs": 1}, evaluation={"distance": 200.0, "distance_unit": "map"},
    )  # fmt: skip
    result = train(config)
    assert result.config.data.nodata == -32768
    assert tuple(result.config.model.class_names or ()) == ("vessel",)
    assert result.metrics["validation"]["images"] == 1
    assert "test" not in result.metrics
    # Missing echoes are no part of the mean (in dB).
    assert -40 < (result.config.model.pixel_mean or (0,))[0] < 0
    # Far from sure after a few steps; what counts is that everything on the way ran and was counted.
    assert result.metrics["validation"]["recall"] is not None
    scenes = ["--scenes", str(tmp_path / "scenes"), "--out", str(tmp_path / "e"), "--device", "cpu"]
    assert main(["evaluate", str(result.folder), str(tmp_path / "val.csv"), *scenes]) == 0
    measured = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert measured == pytest.approx(result.metrics["validation"], nan_ok=True)


@pytest.mark.parametrize(
    ("sections", "kind", "message"),
    [
        (
            {"data": {"view": "crop"}},
            ConfigError,
            r"takes whole images with their pixels: leave out data\.tokens",
        ),
        ({"data": {"table": None}}, ConfigError, r"nothing says where the images are: give data\.table"),
        (
            {"labels": {"mask_column": "masks"}},
            ValueError,
            r"has no column 'masks' \(did you mean 'mask'\?\); its",
        ),
        (
            {"labels": {"class_names": ["ground", "square"]}},
            TableError,
            r"mask\.tif\S* holds the value 2; the classes \('ground', 'square'\) are 0 to 1, .*labels\.class_names",
        ),
    ],
)
def test_what_does_not_fit_is_said(
    dense: Path, tmp_path: Path, sections: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(dense_config(dense, tmp_path / "run", **sections))


def test_what_is_for_dense_heads_only(dense: Path, tmp_path: Path) -> None:
    changes = {"train_size": 64, "windows": 4}
    with pytest.raises(
        ConfigError, match=r"data\.augmentation\.windows is for the heads segmentation, points, detection"
    ):
        train(toy_config(dense, tmp_path / "run", data={"augmentation": changes}))
    with pytest.raises(ConfigError, match=r"a down-sampled image or a crop has no answer about every place"):
        compare(dense_config(dense, tmp_path / "run"), tmp_path / "compared")
