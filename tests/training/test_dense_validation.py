"""Measuring masks, points and boxes on whole images: each region once, whatever the number of processes."""

from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.training.dense_toy import CLASSES, dense_config, dense_table
from tests.training.toy import MODEL
from xt.data.dataset import Reading
from xt.data.dense_dataset import DenseBatch, open_labelled
from xt.heads import BoxTable, DenseHead, DetectionHead, PointHead, PointTable
from xt.labels.image_table import ImageTable
from xt.labels.labelled import ImageWithBoxes, ImageWithPoints
from xt.metrics.boxes import BoxScores
from xt.metrics.points import PointScores
from xt.metrics.segmentation import SegmentationScores
from xt.model.build import build_model, create_model
from xt.model.xt import XT
from xt.prediction.dense_predictor import DensePredictor
from xt.streaming.map import Streaming
from xt.tasks import TASKS, evaluate
from xt.tasks.detection import DetectionEvaluation
from xt.tasks.label_fields import NoSettings
from xt.tasks.place_results import DenseOptions
from xt.tasks.points import PointEvaluation
from xt.training.tables import load_table

HOW = Reading(region_size=64)
CONFIGS = {
    "segmentation": NoSettings(),
    "points": PointEvaluation(distance=30.0, score_threshold=0.3),
    "detection": DetectionEvaluation(),
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_table(tmp_path_factory.mktemp("dense"), train=2, val=3, test=1)


def untrained(dense: Path, head: str) -> tuple[XT, ImageTable]:
    """A model that knows nothing, and three images."""
    config = dense_config(dense, dense.parent / "unused", head)
    names = CLASSES if head == "segmentation" else ("disc", "square")
    torch.manual_seed(0)
    model = build_model(replace(config.model, num_classes=len(names), class_names=names))
    assert isinstance(model.head, DenseHead)
    assert model.head.predict.bias is not None
    torch.nn.init.zeros_(model.head.predict.bias)  # points start by being nowhere
    return model, load_table(config.data, config.labels, model.config, names).split("val")


@pytest.mark.parametrize(("head", "metric"), [("segmentation", SegmentationScores), ("points", PointScores)])
def test_each_image_is_counted_once_and_all_are_their_sum(
    dense: Path, head: str, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, table = untrained(dense, head)
    expected = TASKS[head].scores(model.eval(), CONFIGS[head], sync=False)
    for place in range(len(table)):
        with closing(open_labelled(table, place, HOW)) as pair:
            expected.count(model, pair)
    updates: list[int] = []
    model.streaming = Streaming(region_batch=8)
    monkeypatch.setattr(metric, "update", _counting(metric.update, updates))
    evaluation = evaluate(model, table, HOW, CONFIGS[head])
    assert evaluation.metrics == pytest.approx(expected.compute(), rel=0, abs=0, nan_ok=True)
    shown = evaluation.metrics["pixel_accuracy" if head == "segmentation" else "recall"]
    assert shown > 0
    # 3 x 3 regions of an image, 8 at a time; points are measured at 18 thresholds.
    assert len(updates) == (3 * 2 if head == "segmentation" else 3 * 18)


class Logged:
    """Stands for the Lightning module: keeps what is logged."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.values[name] = float(value)


@pytest.mark.parametrize("context", ["none", "full"])
@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_validation_tells_the_loss_that_training_has(dense: Path, head: str, context: str) -> None:
    """In the pass that gives the metrics: each region is decoded once."""
    torch.manual_seed(0)
    names = CLASSES if head == "segmentation" else ("disc", "square")
    settings = {"head": head, "num_classes": len(names), "class_names": names, "head_options": {"width": 16}}
    model = create_model(**MODEL, context=context, **settings).eval()
    table = untrained(dense, "points" if head == "detection" else head)[1]
    pairs = [open_labelled(table, place, HOW) for place in range(len(table))]
    if head == "detection":
        pairs = [ImageWithBoxes(pair.image, _boxes_around(pair.target)) for pair in pairs]
    with torch.no_grad():
        losses = [model.loss([pair.image], [pair.target]).item() for pair in pairs]
    calls: list[int] = []
    model.head.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0][0])))
    validation, module = TASKS[head].validation(model, CONFIGS[head]), Logged()
    for pair in pairs:
        validation.step(module, model, DenseBatch([pair], (0,)))  # type: ignore[arg-type]
    validation.end(module)  # type: ignore[arg-type]
    assert module.values["val/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert sum(calls) == 3 * 9
    assert np.std(losses) > 0
    for pair in pairs:
        pair.close()


@pytest.mark.parametrize("head", ["points", "detection"])
def test_what_is_measured_is_what_is_predicted_also_around_places_without_data(
    tmp_path: Path, head: str
) -> None:
    model = dense_model(head)
    assert isinstance(model.head, DetectionHead | PointHead)
    model.head.score_threshold = 0.3
    model.streaming = Streaming(region_batch=5)
    pixels = scene()
    pixels[pixels == 127] = 126
    pixels[:130, :200] = 127
    with xt.open_image(pixels, nodata=127) as image:
        result = DensePredictor(model, "cpu").predict(image, tmp_path / "scene", DenseOptions(least_score=0))
        nothing = {
            "detection": ImageWithBoxes(image, BoxTable.empty()),
            "points": ImageWithPoints(image, PointTable.empty()),
        }
        configs = CONFIGS | {"detection": DetectionEvaluation(max_detections=(1, 10, 10_000))}
        found = TASKS[head].scores(model, configs[head], sync=False).count(model, nothing[head])
    assert isinstance(found, BoxTable | PointTable)
    y, x = found.centres.T if isinstance(found, BoxTable) else (found.y, found.x)
    assert not ((y < 120) & (x < 190)).any()
    assert len(found) == sum(result.counts.values()) > 100


def _boxes_around(points: PointTable) -> BoxTable:
    return BoxTable(points.y - 10, points.x - 10, points.y + 10, points.x + 10, points.labels)


def _counting(update: Any, updates: list[int]) -> Any:
    def counted(self: Any, *arguments: Any) -> None:
        updates.append(1)
        update(self, *arguments)

    return counted


def test_boxes_counted_image_by_image_are_those_counted_together() -> None:
    generator = np.random.default_rng(0)
    together, alone = BoxScores(2, sync=False), BoxScores(2, sync=False)
    added: BoxScores | None = None
    for _ in range(4):
        y0, x0 = generator.uniform(0, 200, (2, 6))
        side = generator.uniform(20, 60, 6)
        true = BoxTable(y0, x0, y0 + side, x0 + side, generator.integers(0, 2, 6))
        moved = generator.uniform(-6, 6, 6)
        scores = generator.uniform(0, 1, 6)
        found = BoxTable(y0 + moved, x0, y0 + side + moved, x0 + side, true.labels, scores)
        together.update(found, true)
        alone.reset()
        alone.update(found, true)
        if added is None:
            added = deepcopy(alone)
        else:
            added.merge_state(alone)
    assert added is not None
    assert added.compute() == pytest.approx(together.compute(), rel=0, abs=0, nan_ok=True)
    assert 0.2 < added.compute()["ap"] < 0.9
