"""Boxes around objects: stored as rows, those found twice made one, written as GeoJSON and CSV."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xt.images.thumbnail import thumbnail
from xt.labels.box_table import BoxTable
from xt.labels.merge_boxes import boxes_of_image
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions
from xt.results.box_writers import read_boxes, write_box_table, write_boxes
from xt.results.colours import point_colours
from xt.results.dense_overlay import write_boxes_overlay
from xt.results.on_data import boxes_on_data
from xt.results.region_store import RegionStore
from xt.results.shown import Shown, shown_boxes
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

_COLUMNS = ("y0", "x0", "y1", "x1", "score", "label")


class BoxResults(PlaceResults):
    """The store has a row a box: its edges, score and class number."""

    unit = "boxes"
    # A detector names hundreds that it hardly believes in: average precision wants them, people do not.
    least_score = 0.5
    endings: ClassVar[Mapping[str, str]] = {**in_every_form("boxes"), "table": ".boxes.csv"}

    def __init__(self, model: "XT", options: DenseOptions) -> None:
        super().__init__(model, options)
        head: Any = model.head
        self.iou_threshold = head.iou_threshold if options.merge_iou is None else options.merge_iou

    @property
    def choice(self) -> Any:
        return list(_COLUMNS)

    def stored(self, predictions: Sequence[BoxTable], regions: Sequence[Region], image: "LargeImage") -> Rows:
        """What the image has of each box, if there is data at its centre."""
        rows = []
        for table, region in zip(predictions, regions, strict=True):
            found = boxes_on_data(table, region, image, self.region_size)
            rows.append(np.column_stack([found.edges, found.scores, found.labels]))
        return np.concatenate(rows)

    def write(
        self,
        store: RegionStore,
        grid: PixelRegions,
        read: "AsRead",
        destination: Path,
        tags: Mapping[str, str],
        progress: Callable[[float], object] | None = None,
    ) -> DenseResult:
        rows, left_out = stored_columns(store, _COLUMNS, self.chosen_least_score)
        boxes = self._merged(rows, read)
        files = {what: self.file(destination, what) for what in ("boxes", "table")}
        files |= self.further(destination, "boxes")
        for what in files.keys() - {"table"}:
            write_boxes(boxes, read.file, files[what], self.class_names)
        write_box_table(boxes, files["table"], self.class_names)
        counts = np.bincount(boxes.labels, minlength=len(self.class_names))
        return self.result(read.file, files, counts, left_out)

    def _merged(self, rows: Mapping[str, Rows], read: "AsRead") -> BoxTable:
        """Those found twice made one, in pixels of the file."""
        edges = np.column_stack([rows[name] for name in _COLUMNS[:4]])
        boxes = BoxTable.of(edges, rows["label"], scores=rows["score"])
        merged: BoxTable = read.found(boxes_of_image([boxes], *read.image.shape, self.iou_threshold))
        return merged

    def shown_so_far(
        self, stored: Sequence[Rows], regions: Sequence[Region], read: "AsRead"
    ) -> "list[Shown]":
        rows, _ = good_columns(stored, _COLUMNS, self.chosen_least_score)
        return [_shown(self._merged(rows, read), self.class_names)]

    @classmethod
    def draw(cls, result: DenseResult, image: "LargeImage", destination: Path, title: str) -> None:
        write_boxes_overlay(
            read_boxes(result.files["table"]),
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
        return [_shown(read_boxes(files["table"]), class_names)]


def _shown(boxes: BoxTable, class_names: Sequence[str]) -> Shown:
    return shown_boxes(boxes, "boxes", "boxes", class_names, point_colours(len(class_names)), found=True)
