"""Metrics against values known by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xt.cli.words import in_words
from xt.metrics.summaries import coverage, wilson_interval
from xt.streaming.memory import peak_bytes
from xt.tasks import TASKS


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_s_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_s_interval_covers_95_of_100() -> None:
    hits = np.random.default_rng(0).binomial(60, 0.9, 4000)
    inside = [low <= 0.9 <= high for low, high in (wilson_interval(int(hit), 60) for hit in hits)]
    assert 0.93 <= np.mean(inside) <= 0.97
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_one_label_of_yes_and_no() -> None:
    metrics = TASKS["multilabel"].metrics(1, "val/")
    metrics.update(torch.tensor([[0.9], [0.2], [0.6], [0.4]]), torch.tensor([[1], [0], [0], [1]]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    expected = {"macro_f1": 0.5, "average_precision": 5 / 6, "exact_match": 0.5, "auroc": 0.75}
    assert {name: found[f"val/{name}"] for name in expected} == pytest.approx(expected)


def test_classes() -> None:
    metrics = TASKS["classification"].metrics(8, "val/")
    logits = nn.functional.one_hot(torch.tensor([0, 1, 2, 3]), 8) * 3.0
    logits[3, 4:] = 1.0  # class 4 is among the five most probable of an image taken for class 3
    metrics.update(logits.softmax(-1), torch.tensor([0, 1, 1, 4]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["val/top1"] == 0.5
    assert found["val/top5"] >= 0.75
    # F1 of the classes that occur: 1, 2/3, 0, 0, 0.
    assert found["val/macro_f1"] == pytest.approx((1 + 2 / 3) / 5)
    assert "top5" not in TASKS["classification"].metrics(5)


def test_several_labels() -> None:
    metrics = TASKS["multilabel"].metrics(2)
    metrics.update(torch.tensor([[0.9, 0.2], [0.4, 0.8]]), torch.tensor([[1, 0], [1, 1]]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["exact_match"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_labels_that_no_image_has_are_no_part_of_a_mean() -> None:
    metrics = TASKS["multilabel"].metrics(4)
    # The third is nowhere; the fourth was said once, and is nowhere.
    probabilities = torch.tensor([[0.9, 0.2, 0.1, 0.7], [0.4, 0.8, 0.2, 0.3], [0.3, 0.6, 0.1, 0.2]])
    metrics.update(probabilities, torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert found["average_precision"] == pytest.approx((1 + 1) / 2)


def test_what_was_not_measured_stands_beside_the_means() -> None:
    assert coverage(("a", "b", "c"), [True, False, True]) == {
        "classes": 3,
        "classes_measured": 2,
        "classes_not_measured": ["b"],
    }
    summary = {"images": 2, "mean_iou": 1.0, **coverage(("ground", "square"), [True, False])}
    assert in_words(summary) == "2 images, mean_iou 1, 1 of 2 classes are labelled there, not 'square'"
    summary = {"images": 2, "mean_iou": 1.0, **coverage(("ground", "square"), [True, True])}
    assert in_words(summary) == "2 images, mean_iou 1"


def test_numbers() -> None:
    metrics = TASKS["regression"].metrics(2)
    metrics.update(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == {"rmse": pytest.approx(2**0.5), "mae": pytest.approx(1.0)}


def test_the_deciding_metric_is_one_of_the_task_s() -> None:
    for task in ("classification", "multilabel", "regression"):
        assert TASKS[task].metric in TASKS[task].metrics(3)
    assert {name for name, task in TASKS.items() if task.best == "min"} == {
        "regression",
        "ordinal",
        "multitask",
    }


def test_peak_memory_grows_by_what_is_used() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc to know the memory in use now")
    before = peak_bytes()
    now = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    block = np.ones(before - now + 100_000_000, np.uint8)
    assert 50_000_000 < peak_bytes() - before < 150_000_000
    del block
