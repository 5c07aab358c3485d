"""How good a model's answers about whole images are: predictions, metrics, and the files that show them."""

import json
import math
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from xt.data.dataset import ImageBatch, ImageDataset, Reading
from xt.data.photo_dataset import PhotoBatch, PhotoDataset, photo_loader
from xt.labels.image_table import ImageTable
from xt.metrics.summaries import coverage, with_intervals
from xt.model.xt import XT
from xt.output import check_writable_folder, write_atomically
from xt.tasks.base import Report
from xt.tasks.csv_rows import as_csv

if TYPE_CHECKING:
    from xt.tasks.answers import AnswerTask


@dataclass(frozen=True)
class AnswerEvaluation:
    """Predictions for the images of a table.

    Attributes:
        probabilities: (N, K) in the table's order; for regression the numbers themselves.
        loss: mean of the head's loss over the images (of each image's first view).
    """

    task: "AnswerTask"
    table: ImageTable
    probabilities: np.ndarray
    loss: float

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Those of `AnswerTask.metrics`."""
        metrics = self.task.metrics(len(self.table.class_names), sync=False)
        targets = self.task.metric_targets(torch.as_tensor(self.table.targets))
        metrics.update(torch.as_tensor(self.probabilities), targets)
        return {name: float(value) for name, value in metrics.compute().items()}

    def summary(self) -> dict[str, Any]:
        """The metrics, each accuracy with its 95 % confidence interval, fit for JSON: None where there was nothing to
        measure; and how many of the classes there was something of."""
        images = len(self.table)
        known = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in with_intervals(self.metrics, images).items()
        }
        names = self.table.class_names
        counts = self.task.class_counts(self.table.targets, len(names))
        if counts is None:
            return {"images": images, "loss": self.loss, **known}
        return {"images": images, "loss": self.loss, **known, **coverage(names, (counts > 0).tolist())}

    @property
    def score(self) -> float:
        """The metric that decides, see `Task.metric`."""
        return self.metrics[self.task.metric]

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, `predictions.csv` (one row an image) and, for classes, `confusion.csv` and `.png`.

        With more than 1,000 classes `predictions.csv` has the five most probable ones, `confusion.csv` a row for each
        pair of classes that occurs, and there is no picture: as tables of all classes they would be gigabytes.

        Raises:
            OutputError: the folder cannot be written to.
        """
        check_writable_folder(folder)
        write_atomically(folder / "metrics.json", json.dumps(self.summary(), indent=2) + "\n")
        write_atomically(folder / "predictions.csv", as_csv(self.task.table_of(self)))
        self.task.write_more(self, folder)

    def columns(self, mark: str) -> list[list[Any]]:
        """A row an image: what is known of it, then what was predicted, in columns of these names behind `mark`."""
        names = self.table.class_names
        rows = zip(self.table.paths, self.table.targets.tolist(), self.probabilities.tolist(), strict=True)
        head = ["image", *names, *(f"{mark}{name}" for name in names)]
        return [head, *([str(path), *target, *row] for path, target, row in rows)]


@torch.inference_mode()
def evaluate(
    task: "AnswerTask",
    model: XT,
    table: ImageTable,
    reading: Reading,
    *,
    batch_size: int = 4,
    report: Report | None = None,
    what: str = "evaluate",
) -> AnswerEvaluation:
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
    return AnswerEvaluation(task, table, np.concatenate(probabilities), loss / len(table))


def evaluation_batches(table: ImageTable, how: Reading, batch_size: int) -> DataLoader[Any]:
    """The images of a table in its order."""
    if how.image_size is not None:
        return photo_loader(PhotoDataset(table, how.image_size), batch_size, workers=how.workers)
    return DataLoader(ImageDataset(table, how), batch_size, collate_fn=ImageDataset.collate)


def predict_views(model: XT, batch: ImageBatch | PhotoBatch, first: Tensor | None = None) -> Tensor:
    """(B, K) probabilities in float32, averaged over each image's views.

    Args:
        first: predictions for the first view of each image, if they are known already.
    """
    logits = model(batch.images) if first is None else first
    total = model.image_head.probabilities(logits.float())
    if all(len(views) == 1 for views in batch.views):
        return total
    rows = []
    for row, views in enumerate(batch.views):
        others = [model.image_head.probabilities(model(view).float())[0] for view in views[1:]]
        rows.append(torch.stack([total[row], *others]).mean(dim=0))
    return torch.stack(rows)
