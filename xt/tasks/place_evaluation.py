"""How good a model's answers about every place are on whole labelled images, streamed, and the files that tell."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.metrics.bootstrap import Interval
from xt.metrics.summaries import coverage
from xt.model.xt import XT
from xt.output import check_writable_folder, write_atomically
from xt.progress import Progress
from xt.results.page import write_page
from xt.tasks.base import Evaluated, Report
from xt.tasks.csv_rows import as_csv
from xt.tasks.place_scores import PlaceScores

if TYPE_CHECKING:
    from xt.tasks.places import PlaceTask


@dataclass(frozen=True)
class PlaceEvaluation:
    """Metrics of a table's images.

    Attributes:
        metrics: over all pixels, points or boxes of all images together; NaN where there was nothing to count.
        of_images: those of each image alone, in the table's order.
        found: the points or boxes of each image, in pixels of its file, of which boxes are best first; None for masks.
        settings: what belongs to the metrics, such as how many boxes counted.
        steps: (y, x) of each image, how many pixels of its file one of those that the model reads spans.
        compared: with what is found in all regions, see `xt.prediction.places_against_all`.
    """

    task: "PlaceTask"
    table: ImageTable
    metrics: dict[str, float]
    of_images: list[dict[str, float]]
    found: list[Any]
    settings: dict[str, Any]
    steps: list[tuple[float, float]]
    compared: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The metrics, fit for JSON: None where there was nothing to count; and how many of the classes there was
        something of."""
        known = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        names = self.table.class_names
        # Only where a class has labels can any of it be found, or missed.
        kind = self.task.metric_of_class
        measured = [known.get(f"{kind}({name})" if len(names) > 1 else kind) is not None for name in names]
        known = {"images": len(self.table), **known, **self.settings, **coverage(names, measured)}
        return known | {"against": dict(self.compared)} if self.compared else known

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """None: what is found differs from image to image."""
        return {}

    def of_each(self) -> list[dict[str, Any]]:
        """The metrics of each image alone; "" where there was nothing to count."""
        return [
            {name: "" if math.isnan(value) else f"{value:.6g}" for name, value in row.items()}
            for row in self.of_images
        ]

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """None: images alone do not tell the metrics of several."""
        return {}

    def averaged(self, others: Sequence["PlaceEvaluation"]) -> "PlaceEvaluation":
        raise NotImplementedError("answers about every place are not averaged")

    @property
    def score(self) -> float:
        """The metric that decides, see `Task.metric`."""
        return self.metrics[self.task.metric]

    def with_intervals(self, resamples: int, progress: Progress) -> "PlaceEvaluation":
        """As it is: of all images together only counts are kept."""
        return self

    def against(self, other: Evaluated, name: str, resamples: int, progress: Progress) -> "PlaceEvaluation":
        raise ConfigError(
            f"two models are compared where they answer about whole images, not by a {self.task.name}: evaluate {name} "
            "alone, and put their images.csv beside each other"
        )

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, the page `evaluation.html`, and `images.csv`: a row an image, empty where there was
        nothing to count.

        Of boxes also `detections.json`, COCO's form of results, with the image and category numbers of the labels: what
        pycocotools' `loadRes` reads.

        Raises:
            OutputError: the folder cannot be written to.
        """
        check_writable_folder(folder)
        write_atomically(folder / "metrics.json", json.dumps(self.summary(), indent=2) + "\n")
        rows: list[list[Any]] = [["image", *self.metrics]]
        for path, row in zip(self.table.paths, self.of_images, strict=True):
            rows.append([path, *("" if math.isnan(value) else value for value in row.values())])
        write_atomically(folder / "images.csv", as_csv(rows))
        self.task.write_more(self, folder)
        title = f"xt evaluate: {self.task.name}, {self.table.source}"
        write_page(folder / "evaluation.html", title, self.summary(), [])


@torch.inference_mode()
def evaluate(
    task: "PlaceTask",
    model: XT,
    table: ImageTable,
    reading: Reading,
    settings: Any,
    *,
    report: Report | None = None,
    what: str = "evaluate",
) -> PlaceEvaluation:
    """Measure a model on whole images, one after the other, on its device; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    alone = task.scores(model, settings, sync=False).to(model.device)
    overall: PlaceScores | None = None
    rows: list[dict[str, float]] = []
    found: list[Any] = []
    steps: list[tuple[float, float]] = []
    try:
        for place in range(len(table)):
            alone.reset()
            with closing(open_labelled(table, place, reading)) as pair:
                answers = alone.count(model, pair)
                found.append(None if answers is None else answers.scaled(*pair.step))
                steps.append(pair.step)
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
    return PlaceEvaluation(task, table, overall.compute(), rows, found, dict(alone.settings), steps)
