"""How good a model's answers about whole images are: predictions, metrics, and the files that show them."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from xt.data.dataset import ImageBatch, ImageDataset, Reading
from xt.data.photo_dataset import PhotoBatch, PhotoDataset, photo_loader
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.metrics.answers import undefined
from xt.metrics.bootstrap import Interval, beyond_rounding, interval_of, resampled
from xt.metrics.losses import loss_metric
from xt.metrics.paired import difference, mcnemar
from xt.metrics.summaries import coverage, with_intervals
from xt.model.xt import XT
from xt.output import check_writable_folder, write_atomically
from xt.progress import Progress
from xt.results.page import write_page
from xt.tasks.base import Evaluated, Report
from xt.tasks.csv_rows import as_csv

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from xt.tasks.answers import AnswerTask


@dataclass(frozen=True)
class AnswerEvaluation:
    """Predictions for the images of a table.

    Attributes:
        probabilities: (N, K) in the table's order; for regression the numbers themselves.
        loss: the head's loss of all images (of each image's first view): the mean, where it does not tie them.
        settings: the task's `Evaluation`; None for the defaults.
        decisive: (N, K) what the answers are read from, see `Head.decisive`; None for the probabilities.
        logits: (N, K) of each image's first view, as the loss takes them.
        intervals: of metrics, by resamples of the images.
        compared: with another model, see `against`.
    """

    task: "AnswerTask"
    table: ImageTable
    probabilities: np.ndarray
    loss: float
    settings: Any = None
    decisive: np.ndarray = None  # type: ignore[assignment]
    logits: np.ndarray | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    compared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.decisive is None:
            object.__setattr__(self, "decisive", self.probabilities)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Those of `AnswerTask.metrics`."""
        return self.measured(slice(None))

    def measured(self, rows: Any) -> dict[str, float]:
        """The metrics of some of the images.

        Args:
            rows: which ones, in any order, some of them several times.
        """
        self._metrics.reset()
        self._metrics.update(
            torch.as_tensor(self.decisive[rows]),
            self.task.metric_targets(torch.as_tensor(self.table.targets[rows])),
            certainty=torch.as_tensor(self.probabilities[rows]),
        )
        return self.task.in_order(self._metrics.compute())

    @cached_property
    def _metrics(self) -> "MetricCollection":
        names = self.table.class_names
        return self.task.metrics(len(names), names=names, settings=self.settings, sync=False)

    @property
    def groups(self) -> "tuple[str, ...] | None":
        """The group of each image, such as the patient; None where each is one of its own."""
        return self.table.groups

    def with_intervals(self, resamples: int, progress: Progress) -> "AnswerEvaluation":
        """See `Evaluated`."""
        if not resamples:
            return self
        bar = progress.add("intervals", resamples, "resamples")
        found: list[dict[str, float]] = []
        with warnings.catch_warnings():
            # Of classes that a resample lacks.
            warnings.simplefilter("ignore")
            for rows in resampled(len(self.table), self.groups, resamples=resamples):
                found.append(self.measured(rows))
                bar.update(len(found))
        bar.remove()
        names = self.metrics if found else ()
        values = {name: [one[name] for one in found] for name in names}
        return replace(self, intervals={name: interval_of(values[name], resamples) for name in names})

    def against(
        self, other: "Evaluated", name: str, resamples: int, progress: Progress
    ) -> "AnswerEvaluation":
        if not isinstance(other, AnswerEvaluation) or other.task.name != self.task.name:
            raise ConfigError(f"{name} is no model of a {self.task.name}, so that the two cannot be compared")
        if other.table.paths != self.table.paths or other.table.class_names != self.table.class_names:
            raise ConfigError(
                f"{name} was measured on other images or classes than the first model: name the same --split, and "
                "columns that both have"
            )
        bar = progress.add("compare", resamples, "resamples")
        found: list[dict[str, float]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for rows in resampled(len(self.table), self.groups, resamples=resamples):
                others = other.measured(rows)
                found.append({key: value - others[key] for key, value in self.measured(rows).items()})
                bar.update(len(found))
        bar.remove()
        differences = {
            key: difference(beyond_rounding(value, other.metrics[key]), [one[key] for one in found]).as_dict()
            for key, value in self.metrics.items()
            if not math.isnan(value - other.metrics[key])
        }
        compared: dict[str, Any] = {"model": name, "differences": differences}
        rights = [self.task.right(one) for one in (self, other)]
        if rights[0] is not None and rights[1] is not None:
            compared["mcnemar_p"] = mcnemar(rights[0], rights[1])
        return replace(self, compared=compared)

    def summary(self) -> dict[str, Any]:
        """The metrics with 95 % confidence intervals, of each accuracy Wilson's where no group and no bootstrap says
        otherwise, fit for JSON: None where there was nothing to measure, and why; and how many of the classes there was
        something of."""
        images, names = len(self.table), self.table.class_names
        known: dict[str, Any] = {"images": images, "loss": self.loss}
        if self.table.counts is not None:
            known = {"cases": images, "images": sum(self.table.counts), "loss": self.loss}
        of_shares = {} if self.groups is not None and self.intervals else with_intervals(self.metrics, images)
        for name, value in self.metrics.items():
            known[name] = None if math.isnan(value) else value
            interval = self.intervals.get(name)
            if f"{name}_interval" in of_shares:
                known[f"{name}_interval"] = of_shares[f"{name}_interval"]
            elif interval is not None and interval.resamples and not math.isnan(value):
                known[f"{name}_interval"] = [interval.low, interval.high]
        if self.intervals and self.groups is not None:
            known["groups"] = len(set(self.groups))
        if self.compared:
            known["against"] = dict(self.compared)
        counts = self.task.class_counts(self.table.targets, len(names))
        if counts is None:
            return known
        why = undefined(self.metrics, counts.tolist(), names, images)
        return {**known, **({"undefined": why} if why else {}), **coverage(names, (counts > 0).tolist())}

    @property
    def score(self) -> float:
        """The metric that decides, see `Task.metric`."""
        return {"loss": self.loss, **self.metrics}[self.task.metric]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Those attributes that have a row for each image."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def of_each(self) -> list[dict[str, Any]]:
        """Of each image its label, the answer and its numbers, as `xt predict` writes them."""
        names, task = self.table.class_names, self.task
        return [
            task.label_cells(names, np.asarray(target))
            | {"predicted": task.label(names, decisive)}
            | {column: f"{value:.6g}" for column, value in task.cells(names, values).items()}
            for target, decisive, values in zip(
                self.table.targets, self.decisive, self.probabilities, strict=True
            )
        ]

    def averaged(self, others: Sequence["AnswerEvaluation"]) -> "AnswerEvaluation":
        """What several models find together: the mean of what each found about the same images."""
        everyone = [self, *others]
        means = {name: np.mean([one.arrays[name] for one in everyone], axis=0) for name in self.arrays}
        return replace(self, loss=float(np.mean([one.loss for one in everyone])), **means)

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, `predictions.csv` (one row an image), the page `evaluation.html` and, for classes,
        `confusion.csv` and `.png`.

        With more than 1,000 classes `predictions.csv` has the five most probable ones, `confusion.csv` a row for each
        pair of classes that occurs, and there is no picture: as tables of all classes they would be gigabytes.

        Raises:
            OutputError: the folder cannot be written to.
        """
        check_writable_folder(folder)
        write_atomically(folder / "metrics.json", json.dumps(self.summary(), indent=2) + "\n")
        write_atomically(folder / "predictions.csv", as_csv(self.rows))
        self.task.write_more(self, folder)
        title = f"xt evaluate: {self.task.name}, {self.table.source}"
        write_page(folder / "evaluation.html", title, self.summary(), self.task.drawings(self))

    @property
    def rows(self) -> list[list[Any]]:
        """Of `predictions.csv`, the first of which are the columns' names; of cases also how many images each has."""
        rows = self.task.table_of(self)
        if self.table.counts is None:
            return rows
        counted = zip(["images", *self.table.counts], rows, strict=True)
        return [["case" if row is rows[0] else row[0], count, *row[1:]] for count, row in counted]

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
    settings: Any = None,
    *,
    batch_size: int = 4,
    report: Report | None = None,
    what: str = "evaluate",
) -> AnswerEvaluation:
    """Predict all images of a table, on the model's device; the model is left in the mode it was in.

    Args:
        batch_size: images at a time, >= 1; their files are open together.
    """
    cases = table.by_case()
    was_training = model.training
    model.eval()
    probabilities, answers = [], []
    loss = loss_metric(model.image_head, sync=False).to(model.device)
    try:
        for batch in evaluation_batches(table, reading, batch_size):
            with closing(batch):
                logits = model(batch.images)
                probabilities.append(predict_views(model, batch, logits).cpu())
                answers.append(logits.float().cpu())
            loss.update(logits.float(), batch.targets.to(logits.device))
            if report is not None:
                report(what, batch.places[-1] + 1, len(cases), {})
    finally:
        model.train(was_training)
    found = torch.cat(probabilities)
    return AnswerEvaluation(
        task,
        cases,
        found.numpy(),
        float(loss.compute()),
        settings,
        model.image_head.decisive(found).numpy(),
        torch.cat(answers).numpy(),
    )


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
