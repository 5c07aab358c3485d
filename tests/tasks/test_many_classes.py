"""Thousands of classes: metrics equal torchmetrics' own, and files stay small."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from xt.labels.image_table import ImageTable
from xt.metrics.classes import MacroF1, TopAccuracy
from xt.metrics.summaries import with_intervals
from xt.tasks import TASKS
from xt.tasks.answer_evaluation import AnswerEvaluation


@pytest.mark.parametrize("classes", [7, 40])
def test_metrics_equal_those_of_torchmetrics(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [TopAccuracy(3), TopAccuracy(5), MacroF1(classes)]
    theirs = [
        MulticlassAccuracy(classes, top_k=3, average="micro"),
        MulticlassAccuracy(classes, top_k=5, average="micro"),
        MulticlassF1Score(classes, average="macro"),
    ]
    for _ in range(3):
        probabilities = torch.randn(20, classes, generator=generator).softmax(dim=1)
        # Some classes do not occur.
        targets = torch.randint(classes - 2, (20,), generator=generator)
        for metric in (*ours, *theirs):
            metric.update(probabilities, targets)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.compute(), other.compute())


def test_metrics_that_begin_alike_are_counted_apart() -> None:
    metrics = TASKS["classification"].metrics(8)
    probabilities = torch.eye(8)[[0, 1]] + torch.arange(8, 0, -1) / 100
    metrics.update(probabilities, torch.tensor([0, 1]))
    # The class of rank five: among five, but not among three.
    metrics.update(probabilities[:1], torch.tensor([4]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["top1"] == found["top3"] == pytest.approx(2 / 3)
    assert found["top5"] == 1.0


def test_every_accuracy_has_its_interval_behind_it() -> None:
    found = with_intervals({"macro_f1": 0.5, "top1": 511 / 852, "top3": 0.75, "exact_match": 0.1}, 852)
    assert list(found) == [
        *("macro_f1", "top1", "top1_interval", "top3", "top3_interval", "exact_match", "exact_match_interval")
    ]
    assert found["top1_interval"] == pytest.approx([0.5665, 0.6322], abs=5e-4)


def test_files_of_8142_classes(tmp_path: Path) -> None:
    names = tuple(f"species {number}" for number in range(8142))
    generator = np.random.default_rng(0)
    probabilities = generator.random((6, 8142)).astype(np.float32)
    targets = np.array([5, 17, 17, 4000, 8141, 0])
    probabilities[:3, 17] = 2
    table = ImageTable("t", tuple(Path(f"{row}.jpg") for row in range(6)), targets, names)
    AnswerEvaluation(TASKS["classification"], table, probabilities, 1.0).write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.csv",
        "evaluation.html",
    }
    written = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    page = written.pop("evaluation.html")
    assert sum(written.values()) < 8000
    assert page < 200_000
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["correct"] for row in rows] == ["0", "1", "1", "0", "0", "0"]
    for row, values, target in zip(rows, probabilities, targets, strict=True):
        best = np.argsort(-values)[:5]
        assert [row[f"top{k}"] for k in range(1, 6)] == [names[place] for place in best]
        assert float(row["p_top5"]) == pytest.approx(values[best[4]], rel=1e-5)
        assert float(row["p_label"]) == pytest.approx(values[target], rel=1e-5)
    with (tmp_path / "confusion.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert {"truth": "species 17", "prediction": "species 17", "images": "2"} in pairs
    assert sum(int(pair["images"]) for pair in pairs) == 6
    assert json.loads((tmp_path / "metrics.json").read_text())["top5_interval"][0] > 0
