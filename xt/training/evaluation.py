"""How good a model is on labelled images: predictions, metrics, and the files that show them."""

import csv
import io
import json
import math
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xt.data.dataset import Reading
from xt.labels.image_table import ImageTable
from xt.model.xt import XT
from xt.output import check_writable_folder, write_atomically
from xt.training.callbacks import Report
from xt.training.confusion import draw_confusion
from xt.training.loading import evaluation_batches
from xt.training.metrics import coverage, deciding_metric, make_metrics, with_intervals
from xt.training.module import metric_targets, predict_views

_MOST_COLUMNS = 1000
_BEST = 5


@dataclass(frozen=True)
class Evaluation:
    """Predictions for the images of a table.

    Attributes:
        task: classification, multilabel or regression.
        probabilities: (N, K) in the table's order; for regression the numbers themselves.
        loss: mean of the head's loss over the images (of each image's first view).
    """

    task: str
    table: ImageTable
    probabilities: np.ndarray
    loss: float

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Those of `xt.training.metrics.make_metrics`."""
        metrics = make_metrics(self.task, len(self.table.class_names), sync=False)
        targets = metric_targets(self.task, torch.as_tensor(self.table.targets))
        metrics.update(torch.as_tensor(self.probabilities), targets)
        return {name: float(value) for name, value in metrics.compute().items()}

    @property
    def predictions(self) -> np.ndarray:
        """(N,): the most probable class."""
        return self.probabilities.argmax(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """(K, K): how many images of each class (row) were taken for each class (column)."""
        classes = len(self.table.class_names)
        pairs = self.table.targets * classes + self.predictions
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def summary(self) -> dict[str, Any]:
        """The metrics, each accuracy with its 95 % confidence interval, fit for JSON: None where there was nothing to
        measure; and how many of the classes there was something of."""
        images = len(self.table)
        known = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in with_intervals(self.metrics, images).items()
        }
        names, targets = self.table.class_names, self.table.targets
        if self.task == "regression":
            return {"images": images, "loss": self.loss, **known}
        counts = np.bincount(targets, minlength=len(names)) if targets.ndim == 1 else targets.sum(axis=0)
        return {"images": images, "loss": self.loss, **known, **coverage(names, (counts > 0).tolist())}

    @property
    def score(self) -> float:
        """The metric that decides, see `deciding_metric`."""
        return self.metrics[deciding_metric(self.task)[0]]


@torch.inference_mode()
def evaluate(
    model: XT,
    table: ImageTable,
    reading: Reading,
    *,
    batch_size: int = 4,
    report: Report | None = None,
    what: str = "evaluate",
) -> Evaluation:
    """Predict all images of a table, on the model's device; the model is left in the mode it was in.

    Args:
        batch_size: images at a time, >= 1; their files are open together.
    """
    was_training = model.training
    model.eval()
    probabilities, loss = [], 0.0
    try:
        for batch in evaluation_batches(table, reading, batch_size):
            with closing(batch):
                logits = model(batch.images)
                probabilities.append(predict_views(model, batch, logits).cpu().numpy())
            mean_loss = model.image_head.loss(logits.float(), batch.targets.to(logits.device))
            loss += float(mean_loss) * len(batch.images)
            if report is not None:
                report(what, batch.places[-1] + 1, len(table), {})
    finally:
        model.train(was_training)
    return Evaluation(model.config.head, table, np.concatenate(probabilities), loss / len(table))


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `metrics.json`, `predictions.csv` (one row an image) and, for classes, `confusion.csv` and `.png`.

    With more than 1,000 classes `predictions.csv` has the five most probable ones, `confusion.csv` a row for each pair
    of classes that occurs, and there is no picture: as tables of all classes they would be gigabytes.

    Raises:
        OutputError: the folder cannot be written to.
    """
    check_writable_folder(folder)
    write_atomically(folder / "metrics.json", json.dumps(evaluation.summary(), indent=2) + "\n")
    write_atomically(folder / "predictions.csv", _predictions(evaluation))
    if evaluation.task == "classification" and _has_many_classes(evaluation):
        write_atomically(folder / "confusion.csv", _pairs(evaluation))
    elif evaluation.task == "classification":
        names = evaluation.table.class_names
        rows = [["truth \\ prediction", *names]]
        rows += [[name, *row] for name, row in zip(names, evaluation.confusion.tolist(), strict=True)]
        write_atomically(folder / "confusion.csv", _csv(rows))
        draw_confusion(folder / "confusion.png", evaluation.confusion, names)


def _predictions(evaluation: Evaluation) -> str:
    table = evaluation.table
    names = table.class_names
    paths = [str(path) for path in table.paths]
    if evaluation.task == "classification" and _has_many_classes(evaluation):
        return _best_predictions(evaluation)
    values = evaluation.probabilities.tolist()
    if evaluation.task == "classification":
        truth = [names[target] for target in table.targets]
        guess = [names[prediction] for prediction in evaluation.predictions]
        head = ["image", "label", "prediction", "correct", *(f"p_{name}" for name in names)]
        rows = [
            [path, label, predicted, int(label == predicted), *row]
            for path, label, predicted, row in zip(paths, truth, guess, values, strict=True)
        ]
    else:
        mark = "p_" if evaluation.task == "multilabel" else "predicted_"
        head = ["image", *names, *(f"{mark}{name}" for name in names)]
        rows = [
            [path, *target, *row]
            for path, target, row in zip(paths, table.targets.tolist(), values, strict=True)
        ]
    return _csv([head, *rows])


def _has_many_classes(evaluation: Evaluation) -> bool:
    return len(evaluation.table.class_names) > _MOST_COLUMNS


def _best_predictions(evaluation: Evaluation) -> str:
    """A row an image: what it is, how probable that seemed, and what seemed most probable."""
    names, targets = evaluation.table.class_names, evaluation.table.targets
    numbers = range(1, _BEST + 1)
    head = ["image", "label", "prediction", "correct", "p_label"]
    rows: list[list[Any]] = [[*head, *(f"top{k}" for k in numbers), *(f"p_top{k}" for k in numbers)]]
    for path, target, row in zip(evaluation.table.paths, targets, evaluation.probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:_BEST]
        guess = [names[place] for place in best]
        label = [str(path), names[target], guess[0], int(best[0] == target), float(row[target])]
        rows.append([*label, *guess, *row[best].tolist()])
    return _csv(rows)


def _pairs(evaluation: Evaluation) -> str:
    """A row for each pair of classes, the true one and the predicted one, that occurs."""
    names = evaluation.table.class_names
    pairs = np.stack([evaluation.table.targets, evaluation.predictions], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    rows = [
        [names[truth], names[guess], count]
        for (truth, guess), count in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    return _csv([["truth", "prediction", "images"], *rows])


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()
