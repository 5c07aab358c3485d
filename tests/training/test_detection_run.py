"""Boxes trained and measured through the commands: the same numbers as by pycocotools on the written files."""

import csv
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.training.dense_toy import SIZE, dense_config, dense_scene
from xt.cli.main import main
from xt.config.run import RunConfig
from xt.errors import ConfigError, ShapeError
from xt.heads import BoxTable
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import write_instances
from xt.tasks.detection import DetectionEvaluation
from xt.training.run import RunResult, train

NAMES = ("disc", "square")
# With gaps, and not in the order of the names.
NUMBERS = (12, 7)


def boxes_of(points: list[tuple[float, float, str]]) -> BoxTable:
    half = SIZE / 2
    return BoxTable.of(
        [[y - half, x - half, y + half, x + half] for y, x, _ in points],
        [NAMES.index(name) for *_, name in points],
    )


def write_split(folder: Path, split: str, count: int, generator: np.random.Generator) -> None:
    images, tables = [], []
    for number in range(count):
        pixels, _, points = dense_scene(generator, 150, 170)
        name = f"{split}_{number}.tif"
        if number == 1:
            # Nothing is there.
            pixels, points = np.full_like(pixels, 90), []
        tifffile.imwrite(folder / name, pixels, tile=(64, 64), photometric="rgb")
        images.append(CocoImage(100 + number, name, (150, 170)))
        table = boxes_of(points)
        if split == "train" and number == 0:
            # One without area, and a crowd in a corner: nothing is to be learned from them.
            others = BoxTable.of([[5, 5, 5, 9], [0, 0, 12, 12]], [0, 1], crowd=[False, True])
            table = BoxTable.concatenate([table, others])
        tables.append(table)
    write_instances(folder / f"{split}.json", images, tables, NAMES, NUMBERS)


def detection_config(folder: Path, out: Path, **sections: dict[str, Any]) -> RunConfig:
    data = {"table": None, "coco": [str(folder / f"{split}.json") for split in ("train", "val", "test")]}
    given = sections.pop("data", {})
    model = {"head_options": {"width": 24, "tower_depth": 1}, "halo": 32, **sections.pop("model", {})}
    return dense_config(folder, out, "detection", data={**data, **given}, model=model, **sections)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes")
    generator = np.random.default_rng(0)
    for split, count in {"train": 8, "val": 2, "test": 3}.items():
        write_split(folder, split, count, generator)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    torch.set_num_threads(1)
    augmentation = {"train_size": 128, "label_centred": 0.5, "windows": 3}
    config = detection_config(
        folder,
        tmp_path_factory.mktemp("run") / "run",
        data={"augmentation": augmentation},
        train={"epochs": 8},
    )
    return train(config)


def test_boxes_are_learned(run: RunResult) -> None:
    assert run.metrics["test"]["ap50"] > 0.7
    assert run.metrics["test"]["max_detections"] == 100
    # By the numbers of the file's categories.
    assert tuple(run.config.model.class_names or ()) == ("square", "disc")
    best = max(row["val/ap"] for row in run.curves)
    assert run.metrics["validation"]["ap"] == pytest.approx(best)


def test_evaluate_is_pycocotools_on_the_file_it_writes(
    run: RunResult, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = folder / "test.json"
    command = ["evaluate", str(run.folder), str(truth), "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"all 3 images of {truth}" in printed
    assert "ar_100" in printed
    assert "max_detections 100" in printed
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == pytest.approx(run.metrics["test"])
    with redirect_stdout(io.StringIO()):
        labels = COCO(str(truth))
        evaluation = COCOeval(labels, labels.loadRes(str(tmp_path / "detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = [value for name, value in metrics.items() if name.startswith(("ap", "ar")) and "(" not in name]
    assert [-1 if value is None else value for value in ours] == pytest.approx(evaluation.stats.tolist())
    # Categories are in the order of their numbers there, as here.
    assert metrics["ap(disc)"] == pytest.approx(evaluation.eval["precision"][:, :, 1, 0, 2].mean())
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["test_0.tif", "test_1.tif", "test_2.tif"]
    # Nothing is there, nothing can be measured.
    assert rows[1]["ap"] == ""
    assert float(rows[0]["ap50"]) > 0.5


def test_where_nothing_is_labelled_boxes_are_found_and_nothing_is_measured(
    run: RunResult, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "test.json").read_text()) | {"annotations": []}
    (tmp_path / "i.json").write_text(json.dumps(content))
    command = ["evaluate", str(run.folder), str(tmp_path / "i.json"), "--root", str(folder)]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "3 images, max_detections 100, nothing labelled there to measure by" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {metrics[name] for name in metrics if name.startswith("ap")} == {None}
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) > 3


@pytest.mark.filterwarnings("default:.* images have more than 3 objects")
def test_fewer_boxes_count_where_wanted(
    run: RunResult, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "evaluate",
        str(run.folder),
        str(folder / "test.json"),
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    assert main([*command, "--max-detections", "1", "2", "3"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 images have more than 3 objects, up to 6, of which no more than 3 can be found" in said
    rows = json.loads((tmp_path / "detections.json").read_text())
    for image in (100, 102):
        scores = [row["score"] for row in rows if row["image_id"] == image]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # Three of six objects at most.
    assert metrics["ar_3"] <= 0.5
    assert metrics["ap50"] < run.metrics["test"]["ap50"]
    assert metrics["max_detections"] == 3


def test_images_may_lie_elsewhere(run: RunResult, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text((folder / "test.json").read_text())
    command = ["evaluate", str(run.folder), str(tmp_path / "test.json"), "--device", "cpu"]
    assert main(command) == 2
    assert main([*command, "--root", str(folder)]) == 0


@pytest.mark.parametrize("context", ["none", "full"])
def test_a_step_goes_whole_or_by_windows(folder: Path, tmp_path: Path, context: str) -> None:
    """Whole images, one without any object; and a window where the context encoder is trained, too."""
    augmentation = {} if context == "none" else {"train_size": 96, "windows": 1}
    config = detection_config(
        folder, tmp_path / "run", model={"context": context}, train={"epochs": 1, "batch_size": 4},
        data={"augmentation": augmentation},
    )  # fmt: skip
    result = train(config, evaluate_test=False)
    assert np.isfinite(result.curves[0]["train/loss"])


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "val.json").read_text())
    content["images"][0]["height"] = 151
    (tmp_path / "val.json").write_text(json.dumps(content))
    data = {"coco": [str(folder / "train.json"), str(tmp_path / "val.json")], "images": [str(folder)]}
    with pytest.raises(ShapeError, match=r"lists .*val_0\.tif as 151 x 170 pixels"):
        train(detection_config(folder, tmp_path / "run", data=data))
    with pytest.raises(ConfigError, match=r"three rising numbers from 1 on, got \(10, 1, 100\)"):
        DetectionEvaluation(max_detections=(10, 1, 100))
