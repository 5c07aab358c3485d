"""Points of interest: stored as rows, those found twice made one, written as GeoJSON and CSV."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xt.images.thumbnail import thumbnail
from xt.labels.merge_points import merge_points
from xt.labels.point_table import PointTable
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions
from xt.results.colours import point_colours
from xt.results.dense_overlay import write_points_overlay
from xt.results.dense_writers import read_columns, write_point_table, write_points
from xt.results.on_data import on_data
from xt.results.region_store import RegionStore
from xt.results.shown import Shown, shown_points
from xt.tasks.place_results import (
    DenseOptions,
    DenseResult,
    PlaceResults,
    Rows,
    good_columns,
    in_every_form,
    stored_columns,
)

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.images.resolution import AsRead
    from xt.model.xt import XT


class PointResults(PlaceResults):
    """The store has a row a point: y, x, score, class number, then the head's attributes."""

    unit = "points"
    least_score = 0.0
    endings: ClassVar[Mapping[str, str]] = {**in_every_form("points"), "table": ".points.csv"}

    def __init__(self, model: "XT", options: DenseOptions) -> None:
        super().__init__(model, options)
        head: Any = model.head
        self.attributes = list(head.attributes)
        self.columns = ["y", "x", "score", "label", *self.attributes]
        self.head_radius: float = head.radius

    @property
    def choice(self) -> Any:
        return self.columns

    def stored(
        self, predictions: Sequence[PointTable], regions: Sequence[Region], image: "LargeImage"
    ) -> Rows:
        rows = []
        for table, region in zip(predictions, regions, strict=True):
            found = table.select(on_data(table.y, table.x, region, image, self.region_size))
            known = [found.attributes[name] for name in self.attributes]
            columns = [found.y, found.x, found.scores, found.labels, *known]
            rows.append(np.stack(columns, axis=1).astype(np.float64))
        points = np.concatenate(rows)
        points[:, :2] = _inside(points[:, :2], image.shape)
        return points

    def write(
        self,
        store: RegionStore,
        grid: PixelRegions,
        read: "AsRead",
        destination: Path,
        tags: Mapping[str, str],
        progress: Callable[[float], object] | None = None,
    ) -> DenseResult:
        points, left_out = stored_columns(store, self.columns, self.chosen_least_score)
        points = self._merged(points, read)
        image = read.file
        files = {what: self.file(destination, what) for what in ("points", "table")}
        files |= self.further(destination, "points")
        for what in files.keys() - {"table"}:
            write_points(points, image, files[what], self.class_names)
        write_point_table(points, image, files["table"], self.class_names)
        counts = np.bincount(points["label"].astype(np.int64), minlength=len(self.class_names))
        return self.result(image, files, counts, left_out)

    def _merged(self, points: dict[str, Rows], read: "AsRead") -> dict[str, Rows]:
        """Those found twice made one, in pixels of the file."""
        kept = merge_points(points["y"], points["x"], points["score"], self._radius(read))
        points = {name: values[kept] for name, values in points.items()}
        for axis, name in enumerate(("y", "x")):
            points[name] = _inside(points[name] * read.step[axis], read.file.shape[axis])
        return points

    def shown_so_far(
        self, stored: Sequence[Rows], regions: Sequence[Region], read: "AsRead"
    ) -> "list[Shown]":
        columns, _ = good_columns(stored, self.columns, self.chosen_least_score)
        return [_shown(self._merged(columns, read), self.class_names)]

    def _radius(self, read: "AsRead") -> float:
        """How close points of one object are, in pixels of the image as the model reads it."""
        wanted = self.chosen.merge_radius
        return self.head_radius if wanted is None else wanted / math.sqrt(read.step[0] * read.step[1])

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
            regions=result.looked,
        )

    @classmethod
    def shown(
        cls, files: Mapping[str, Path], image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        if "table" not in files:
            return []
        return [_shown(read_columns(files["table"]), class_names)]


def _shown(columns: Mapping[str, Rows], class_names: Sequence[str]) -> Shown:
    points = PointTable(columns["y"], columns["x"], columns["label"].astype(np.int64), columns["score"])
    return shown_points(points, "points", "points", class_names, point_colours(len(class_names)), found=True)


def _inside(places: Rows, sides: float | tuple[int, int]) -> Rows:
    """Places within an image: files have thousandths of a pixel; rounded up, one at the very edge would lie outside."""
    return np.minimum(places, np.asarray(sides) - 1e-3)
