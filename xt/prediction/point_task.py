"""Points of interest: stored as rows, those found twice made one, written as GeoJSON and CSV."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xt.heads.points import PointHead
from xt.prediction.dense_overlay import write_points_overlay
from xt.prediction.dense_task import DenseOptions, DenseResult, DenseTask, Rows, on_data, stored_columns
from xt.prediction.dense_writers import read_columns, write_point_table, write_points
from xt.prediction.merge_points import merge_points
from xt.prediction.region_store import RegionStore
from xt.prediction.thumbnail import thumbnail
from xt.regions import Region, RegionGrid

if TYPE_CHECKING:
    from xt.heads.point_table import PointTable
    from xt.images import LargeImage
    from xt.model import XT


class PointTask(DenseTask):
    """The store has a row a point: y, x, score, class number, then the head's attributes."""

    name = "points"
    unit = "points"
    endings: ClassVar[Mapping[str, str]] = {"points": ".points.geojson", "table": ".points.csv"}

    def __init__(self, model: "XT", options: DenseOptions) -> None:
        super().__init__(model, options)
        assert isinstance(model.head, PointHead)
        self.attributes = list(model.head.attributes)
        self.columns = ["y", "x", "score", "label", *self.attributes]
        self.radius = model.head.radius if options.merge_radius is None else options.merge_radius

    @property
    def choice(self) -> Any:
        return self.columns

    def stored(
        self, predictions: Sequence["PointTable"], regions: Sequence[Region], image: "LargeImage"
    ) -> Rows:
        rows = []
        for table, region in zip(predictions, regions, strict=True):
            found = table.select(on_data(table.y, table.x, region, image))
            known = [found.attributes[name] for name in self.attributes]
            columns = [found.y, found.x, found.scores, found.labels, *known]
            rows.append(np.stack(columns, axis=1).astype(np.float64))
        points = np.concatenate(rows)
        # Files have thousandths of a pixel; rounded up, a point at the very edge would lie outside.
        points[:, :2] = np.minimum(points[:, :2], np.array(image.shape) - 1e-3)
        return points

    def write(
        self,
        store: RegionStore,
        grid: RegionGrid,
        image: "LargeImage",
        destination: Path,
        tags: Mapping[str, str],
        progress: Callable[[float], object] | None = None,
    ) -> DenseResult:
        points, left_out = stored_columns(store, self.columns, self.chosen.least_score or 0.0)
        kept = merge_points(points["y"], points["x"], points["score"], self.radius)
        points = {name: values[kept] for name, values in points.items()}
        files = {what: self.file(destination, what) for what in self.endings}
        write_points(points, image, files["points"], self.class_names)
        write_point_table(points, image, files["table"], self.class_names)
        counts = np.bincount(points["label"].astype(np.int64), minlength=len(self.class_names))
        return self.result(image, files, counts, left_out)

    @classmethod
    def draw(cls, result: DenseResult, image: "LargeImage", destination: Path, title: str) -> None:
        write_points_overlay(
            read_columns(result.files["table"]),
            image.shape,
            thumbnail(image),
            destination,
            list(result.counts),
            title=title,
            microns_per_pixel=image.microns_per_pixel[1] if image.microns_per_pixel else None,
        )
