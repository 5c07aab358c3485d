"""How good a model of masks, points or boxes is on whole labelled images, streamed, and the files that tell."""

import csv
import io
import json
import math
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xt.config.run import EvaluationConfig
from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.heads import BoxTable, PointTable
from xt.labels.formats.coco_writing import result_rows, write_results
from xt.labels.image_table import ImageTable
from xt.labels.targets import Boxes
from xt.model.xt import XT
from xt.output import check_writable_folder, write_atomically
from xt.training.callbacks import Report
from xt.training.dense_metrics import DenseScores, count_image
from xt.training.metrics import coverage, deciding_metric


@dataclass(frozen=True)
class DenseEvaluation:
    """Metrics of a table's images.

    Attributes:
        task: segmentation, points or detection.
        metrics: over all pixels, points or boxes of all images together; NaN where there was nothing to count.
        rows: of each image alone, in the table's order.
        found: the points or boxes of each image, in pixels of its file, of which boxes are best first; None for masks.
        settings: what belongs to the metrics, such as how many boxes counted.
    """

    task: str
    table: ImageTable
    metrics: dict[str, float]
    rows: list[dict[str, float]]
    found: list[PointTable | BoxTable | None]
    settings: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """The metrics, fit for JSON: None where there was nothing to count; and how many of the classes there was
        something of."""
        known = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        names = self.table.class_names
        # Only where a class has labels can any of it be found, or missed.
        kind = "ap" if self.task == "detection" else "recall"
        measured = [known.get(f"{kind}({name})" if len(names) > 1 else kind) is not None for name in names]
        return {"images": len(self.table), **known, **self.settings, **coverage(names, measured)}

    @property
    def score(self) -> float:
        """The metric that decides, see `deciding_metric`."""
        return self.metrics[deciding_metric(self.task)[0]]


@torch.inference_mode()
def evaluate_dense(
    model: XT,
    table: ImageTable,
    reading: Reading,
    config: EvaluationConfig,
    *,
    report: Report | None = None,
    what: str = "evaluate",
) -> DenseEvaluation:
    """Measure a model on whole images, one after the other, on its device; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    alone = DenseScores(model, config, sync=False).to(model.device)
    overall: DenseScores | None = None
    rows: list[dict[str, float]] = []
    found: list[PointTable | BoxTable | None] = []
    try:
        for place in range(len(table)):
            alone.reset()
            with closing(open_labelled(table, place, reading)) as pair:
                answers = count_image(model, pair, alone)
                found.append(None if answers is None else answers.scaled(*pair.step))
            if overall is None:
                overall = deepcopy(alone)
            else:
                overall.add(alone)
            rows.append(alone.compute())
            if report is not None:
                report(what, place + 1, len(table), {})
    finally:
        model.train(was_training)
    assert overall is not None, "a table has at least one image"
    task = model.config.head
    settings = {"max_detections": config.max_detections[-1]} if task == "detection" else {}
    return DenseEvaluation(task, table, overall.compute(), rows, found, settings)


def write_dense_evaluation(evaluation: DenseEvaluation, folder: Path) -> None:
    """Write `metrics.json` and `images.csv`: a row an image, empty where there was nothing to count.

    Of boxes also `detections.json`, COCO's form of results, with the image and category numbers of the labels: what
    pycocotools' `loadRes` reads.

    Raises:
        OutputError: the folder cannot be written to.
    """
    check_writable_folder(folder)
    write_atomically(folder / "metrics.json", json.dumps(evaluation.summary(), indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *evaluation.metrics])
    for path, row in zip(evaluation.table.paths, evaluation.rows, strict=True):
        writer.writerow([path, *("" if math.isnan(value) else f"{value:.6g}" for value in row.values())])
    write_atomically(folder / "images.csv", text.getvalue())
    if evaluation.task == "detection":
        write_results(folder / "detections.json", _results(evaluation))


def _results(evaluation: DenseEvaluation) -> Iterator[dict[str, Any]]:
    for target, found in zip(evaluation.table.targets, evaluation.found, strict=True):
        assert isinstance(target, Boxes)
        assert isinstance(found, BoxTable)
        yield from result_rows(target.image_id, found, target.category_ids)
