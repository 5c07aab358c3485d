"""The page of an evaluation: all that it shows is in it."""

import re
from pathlib import Path

import numpy as np
import pytest

from xt.labels.image_table import ImageTable
from xt.progress import Quiet
from xt.results.survival_curves import kaplan_meier
from xt.tasks import TASKS
from xt.tasks.answer_evaluation import AnswerEvaluation


def page_of(task, targets, probabilities, names, folder, resamples=0) -> str:
    paths = tuple(Path(f"{number}.tif") for number in range(len(targets)))
    table = ImageTable("table.csv", paths, np.asarray(targets), names)
    found = AnswerEvaluation(TASKS[task], table, np.asarray(probabilities, np.float32), 0.5)
    found.with_intervals(resamples, Quiet()).write(folder)
    return (folder / "evaluation.html").read_text(encoding="utf-8")


def titles(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


@pytest.fixture
def some():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, 30)
    return targets, generator.dirichlet(np.ones(3), 30)


def test_of_classes_it_shows_curves_intervals_and_confusion(some, tmp_path):
    targets, p = some
    # Names that would be markup, a formula, or nothing.
    page = page_of("classification", targets, p, ("<b>a", "$b_{", "_c"), tmp_path, resamples=5)
    assert titles(page) == ["ROC", "Precision and recall", "Calibration", "Confusion"]
    assert page.count("<svg") == 4
    assert "&lt;b&gt;a" in page
    assert "<b>" not in page
    assert re.search(r"<td>auroc</td><td>0\.\d+</td><td>0\.\d+ to [01]\.\d+</td>", page)
    assert not re.search(r"<script|src=|href=\"http|@import", page)
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "parts of several pictures have one name"
    assert page == page_of("classification", targets, p, ("<b>a", "$b_{", "_c"), tmp_path, resamples=5)


def test_of_labels_and_numbers(some, tmp_path):
    targets, p = some
    page = page_of("multilabel", np.eye(3)[targets], p, ("a", "b", "c"), tmp_path)
    assert titles(page) == ["ROC", "Precision and recall", "Calibration"]
    page = page_of("regression", p[:, :1], p[:, :1], ("height",), tmp_path)
    assert titles(page) == []
    assert "<td>rmse</td>" in page


def test_what_could_not_be_measured_is_said(tmp_path):
    page = page_of("classification", [0, 0], [[0.6, 0.4], [0.2, 0.8]], ("a", "b"), tmp_path)
    assert titles(page) == ["Confusion"]
    assert "no class can be told from others, as all 2 images are of &#x27;a&#x27;" in page


def test_of_very_many_classes_some_are_drawn(tmp_path):
    generator = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(120))
    page = page_of("classification", np.arange(120), generator.dirichlet(np.ones(120), 120), names, tmp_path)
    assert titles(page) == ["ROC", "Precision and recall", "Calibration"]


def test_of_survival_it_shows_who_has_it_sooner(tmp_path):
    generator = np.random.default_rng(1)
    times = generator.exponential(5, 60).round(1)
    targets = np.stack([times, generator.integers(0, 2, 60)], axis=1)
    page = page_of("survival", targets, -times[:, None], ("risk",), tmp_path)
    assert titles(page) == ["Kaplan-Meier"]
    assert re.search(r"Log-rank test: p = \d\.?\d*e-\d+", page)
    # Nothing happens to anybody, or all have one risk: there is nothing to draw.
    assert kaplan_meier(times, np.zeros(60, bool), -times) is None
    assert kaplan_meier(times, np.ones(60, bool), np.zeros(60)) is None
    # Whoever has it not at all within one half is drawn without a test.
    shown = kaplan_meier(times, times < np.median(times), -times)
    assert shown is not None
    assert "Log-rank" not in shown.note
