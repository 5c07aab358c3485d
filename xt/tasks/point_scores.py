"""What points are measured by."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from xt.errors import ConfigError
from xt.images import LargeImage
from xt.labels.merge_points import merge_points
from xt.labels.point_table import PointTable
from xt.metrics.points import PointScores
from xt.model.xt import XT
from xt.regions.grid import Region
from xt.results.on_data import on_data
from xt.tasks.place_scores import ObjectScores

_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 20))


class FoundPointScores(ObjectScores):
    """Those of `PointScores` at the configured score threshold, and `best_f1` with `best_threshold`.

    That is the highest F1 at any threshold from 0.1 to 0.95 in steps of 0.05, which tells how good the points are
    before anyone has chosen a threshold.

    Args:
        evaluation: when a point counts as found, see `xt.tasks.points.PointEvaluation`.
        sync: whether the processes of a distributed run add up what each has seen.
    """

    def __init__(self, model: XT, evaluation: Any, *, sync: bool = True) -> None:
        classes, names = model.config.num_classes, model.config.class_names
        thresholds = dict.fromkeys((evaluation.score_threshold, *_THRESHOLDS))
        super().__init__(
            [
                PointScores(
                    evaluation.distance,
                    classes if classes > 1 else None,
                    threshold=threshold,
                    class_names=names if classes > 1 else None,
                    sync=sync,
                )
                for threshold in thresholds
            ]
        )
        self.unit = evaluation.distance_unit

    def update(self, answers: PointTable, target: PointTable, image: LargeImage) -> None:
        """Count all points found in an image against those that are there."""
        super().update(self._placed(answers, image), self._placed(target, image), image)

    def compute(self) -> dict[str, float]:
        found = {metric.threshold: float(metric.compute()["f1"]) for metric in self.each()}
        best = max(found, key=lambda threshold: np.nan_to_num(found[threshold], nan=-1.0))
        return {**super().compute(), "best_f1": found[best], "best_threshold": best}

    def found(self, head: Any, tables: Iterable[tuple[Region, PointTable]], image: LargeImage) -> PointTable:
        size = head.geometry.region_size
        found = PointTable.concatenate(
            [table.select(on_data(table.y, table.x, region, image, size)) for region, table in tables]
        )
        return found.select(merge_points(found.y, found.x, found.scores, head.radius))

    def _placed(self, points: PointTable, image: LargeImage) -> PointTable:
        """Points where distances are measured: in pixels or on the map."""
        if self.unit == "pixels":
            return points
        if image.location is None:
            raise ConfigError(
                f"evaluation.distance_unit is 'map', but {image.name} does not say where it lies; set it to 'pixels'"
            )
        x, y = image.location.to_map(points.y, points.x)
        return replace(points, y=y, x=x)
