"""Evaluation: its numbers, its files, its views."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.training.toy import toy_model
from xt.data.dataset import EpochSampler, ImageDataset, Reading
from xt.data.table_files import read_table
from xt.data.views import centre_crops
from xt.errors import OutputError
from xt.images import open_image
from xt.labels.image_table import ImageTable
from xt.results.confusion import draw_confusion
from xt.tasks import TASKS, evaluate
from xt.tasks.answer_evaluation import AnswerEvaluation
from xt.tasks.class_tables import confusion_of
from xt.tasks.place_evaluation import PlaceEvaluation

WHOLE = Reading(region_size=64)


def _evaluation() -> AnswerEvaluation:
    names = ("a", "b", "c")
    table = ImageTable("t.csv", tuple(Path(f"{i}.tif") for i in range(4)), np.array([0, 1, 1, 2]), names)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.0, 0.0, 1.0]], np.float32)
    return AnswerEvaluation(TASKS["classification"], table, probabilities, 0.5)


def test_numbers_of_known_predictions() -> None:
    evaluation = _evaluation()
    assert confusion_of(evaluation).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    summary = evaluation.summary()
    assert summary["images"] == 4
    assert summary["top1"] == evaluation.score == 0.75
    assert summary["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert summary["top1_interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)


def test_classes_without_labels_are_named() -> None:
    evaluation = _evaluation()
    table = replace(evaluation.table, targets=np.array([0, 0, 2, 2]))
    summary = replace(evaluation, table=table).summary()
    assert (summary["classes"], summary["classes_measured"]) == (3, 2)
    assert summary["classes_not_measured"] == ["b"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize(
    ("task", "metrics", "measured"),
    [
        ("segmentation", {"mean_iou": 1.0, "recall(a)": 1.0, "recall(b)": math.nan, "iou(b)": 0.0}, ["b"]),
        ("points", {"f1": 1.0, "recall(a)": 0.0, "recall(b)": math.nan}, ["b"]),
        ("detection", {"ap": 0.3, "ap(a)": math.nan, "ap(b)": 0.3}, ["a"]),
    ],
)
def test_classes_without_pixels_points_or_boxes_are_named(task: str, metrics: dict, measured: list) -> None:
    table = ImageTable("t.csv", (Path("0.tif"),), np.empty(1, object), ("a", "b"))
    summary = PlaceEvaluation(TASKS[task], table, metrics, [metrics], [None], {}, [(1.0, 1.0)]).summary()
    assert summary["classes_not_measured"] == measured
    assert summary["classes_measured"] == 1
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_files(tmp_path: Path) -> None:
    _evaluation().write(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert json.loads((folder / "metrics.json").read_text())["top1"] == 0.75
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["a", "b", "c", "c"]
    assert [row["correct"] for row in rows] == ["1", "1", "0", "1"]
    assert rows[0] == {
        "image": "0.tif",
        "label": "a",
        "predicted": "a",
        "correct": "1",
        "p_a": "0.8",
        "p_b": "0.1",
        "p_c": "0.1",
    }
    with (folder / "confusion.csv").open() as file:
        assert list(csv.reader(file))[2] == ["b", "0", "1", "1"]
    with Image.open(folder / "confusion.png") as picture:
        assert picture.format == "PNG"
        # Not a blank page: the matrix's darkest blue is in it.
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert (np.abs(pixels.astype(int) - (8, 48, 107)).sum(axis=1) < 10).sum() > 1000


@pytest.mark.parametrize("classes", [1, 40, 200])
def test_confusion_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    draw_confusion(tmp_path / "c.png", np.eye(classes, dtype=int), [f"class {i}" for i in range(classes)])
    with Image.open(tmp_path / "c.png") as picture:
        assert max(picture.size) <= 1800


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        _evaluation().write(tmp_path / "file")


def test_predictions_are_the_model_s_and_the_mode_stays(table: Path) -> None:
    model = toy_model()
    model.train()
    images = read_table(table, class_names=("blue", "green", "red")).split("test")
    reports: list[tuple[str, int, int]] = []
    found = evaluate(
        model,
        images,
        WHOLE,
        batch_size=4,
        report=lambda what, done, total, _: reports.append((what, done, total)),
    )
    assert model.training
    assert reports == [("evaluate", 4, 9), ("evaluate", 8, 9), ("evaluate", 9, 9)]
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(open_image(path)) for path in images.paths])
    np.testing.assert_allclose(found.probabilities, logits.softmax(-1).numpy(), atol=1e-5)
    expected = torch.nn.functional.cross_entropy(logits, torch.as_tensor(images.targets))
    assert found.loss == pytest.approx(float(expected), rel=1e-5)


def test_several_crops_are_averaged(table: Path) -> None:
    model = toy_model().eval()
    images = read_table(table).split("test").subset([0, 1])
    found = evaluate(model, images, Reading(region_size=64, view="crop", crops=2))
    with torch.no_grad():
        for path, row in zip(images.paths, found.probabilities, strict=True):
            crops = [model(crop).softmax(-1)[0] for crop in centre_crops(open_image(path), 64, 2)]
            assert len(crops) == 4
            np.testing.assert_allclose(row, torch.stack(crops).mean(0).numpy(), atol=1e-5)


def test_a_dataset_s_draws_depend_on_seed_epoch_and_index_only(table: Path) -> None:
    from xt.data.augmentation import Augmentation

    images = read_table(table).split("train")
    strong = Augmentation(brightness=0.5, train_size=64)

    def pixels(seed: int, epoch: int, index: int) -> np.ndarray:
        image = ImageDataset(images, WHOLE, augmentation=strong, seed=seed)[epoch, index].views[0]
        return image.read(0, 0, *image.shape)

    assert np.array_equal(pixels(0, 1, 2), pixels(0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not np.array_equal(pixels(0, 1, 2), pixels(*other))


def test_batches_close_their_files(table: Path) -> None:
    dataset = ImageDataset(read_table(table).split("train"), WHOLE)
    batch = ImageDataset.collate([dataset[0], dataset[1]])
    assert [image.shape for image in batch.images] == [(100, 130)] * 2
    assert batch.targets.tolist() == [2, 1]
    batch.close()
    assert all(image.closed for image in batch.images)


def test_the_sampler_shares_out_every_image_in_an_order_of_its_own_each_epoch() -> None:
    def order(epoch: int, **settings: int) -> list[int]:
        sampler = EpochSampler(10, seed=3, **settings)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert {first for first, _ in drawn} == {epoch}
        assert len(drawn) == len(sampler)
        return [index for _, index in drawn]

    assert sorted(order(0)) == list(range(10))
    assert order(0) == order(0) != order(1)
    shares = [order(0, rank=rank, processes=3) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert {index for share in shares for index in share} == set(range(10))
    shares = [order(0, rank=rank, processes=3, fill=False) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 3, 3]
    assert sorted(index for share in shares for index in share) == list(range(10))


def test_files_open_at_one_time_are_those_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xt.data import dataset

    rows = ["image,label"]
    for index in range(12):
        tifffile.imwrite(tmp_path / f"{index}.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
        rows.append(f"{index}.tif,{index % 3}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    opened: list = []
    most = 0

    def counting(*arguments: object, **settings: object) -> object:
        nonlocal most
        image = open_image(*arguments, **settings)  # type: ignore[arg-type]
        opened.append(image)
        most = max(most, sum(not image.closed for image in opened))
        return image

    monkeypatch.setattr(dataset, "open_image", counting)
    evaluate(toy_model(), read_table(tmp_path / "t.csv"), WHOLE, batch_size=3)
    assert len(opened) == 12
    assert most == 3
    assert all(image.closed for image in opened)
