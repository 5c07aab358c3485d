"""A class for every pixel."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xt.data.dense_table import read_mask_table
from xt.results.colours import Colour, class_colours
from xt.tasks.base import Guess, TableRows
from xt.tasks.label_fields import FileLabels, NoSettings
from xt.tasks.places import PartOfRun, PlaceTask, columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.labels.targets import Target
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.results.shown import Shown
    from xt.tasks.label_facts import LabelFacts, LabelLook
    from xt.tasks.place_results import PlaceResults
    from xt.tasks.place_scores import PlaceScores


@dataclass(frozen=True, kw_only=True)
class SegmentationLabels(FileLabels):
    """Which files have the masks, as pixels or as polygons."""

    mask_column: str = "mask"
    """Column of the masks' paths, images of one channel that holds class numbers, or files of polygons (GeoJSON, also
    QuPath's, GeoPackage, shapefile, KML, FlatGeobuf, GeoParquet), whose class is their property `class` or `label`, or
    what `label_columns` says; a column `polygons` is taken, too, where there is none called `mask`."""
    mask_values: tuple[int, ...] | None = None
    """The masks' pixel value of each class, in the classes' order, such as [0, 255]; without it, they are class
    numbers."""
    mask_nodata: float | None = None
    """The masks' pixel value where nothing is known, for files that do not say so themselves, or that say so of a
    class; 255 (`model.head_options.ignore_index`) means so anyway."""
    unlabelled: str = "ignored"
    """Of polygons: the class of pixels that none covers, such as background; with "ignored" nothing is known about
    them. A column of this name in the table says it for a row."""
    polygon_order: Literal["area", "file"] = "area"
    """Which polygon lies on top where some overlap: "area": the smaller; "file": the later in the file."""


class Segmentation(PlaceTask):
    """One of K classes for every pixel."""

    name = "segmentation"
    Labels: ClassVar[type] = SegmentationLabels
    Evaluation: ClassVar[type] = NoSettings
    metric = "mean_iou"
    recipe = "segmentation"
    columns = ("mask", "polygons")
    drawn_as = "polygon"
    counted = "pixels"
    counts_are_shares = True
    options = ("probabilities", "outlines", "least_area", "restart", "budget", "seconds_per_image")
    also: ClassVar[Mapping[str, str]] = {"geoparquet": "outlines", "gpkg": "outlines", "ome-zarr": ""}

    @property
    def results(self) -> "type[PlaceResults]":
        from xt.tasks.segmentation_results import SegmentationResults

        return SegmentationResults

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        return read_mask_table(
            class_names=class_names or labels.class_names or (None if model is None else model.class_names),
            num_classes=2 if model is None else model.num_classes,
            mask_column=labels.mask_column,
            values=labels.mask_values,
            nodata=labels.mask_nodata,
            unlabelled=labels.unlabelled,
            order=labels.polygon_order,
            **columns(table, labels),
        )

    def scores(self, model: "XT", settings: Any, *, sync: bool = True) -> "PlaceScores":
        """Those of `SegmentationScores`."""
        from xt.metrics.segmentation import SegmentationScores
        from xt.tasks.place_scores import PixelScores

        head: Any = model.head
        config = model.config
        return PixelScores(
            [SegmentationScores(config.num_classes, head.ignore_index, config.class_names, sync=sync)]
        )

    def check_part(
        self, part: PartOfRun, found: "NDArray[np.int64] | None", settings: Any, model: "ModelConfig"
    ) -> None:
        from xt.data.seen_classes import check_masks

        check_masks(
            part.table,
            part.reading,
            self.ignore_index(model),
            training=part.name == "training",
            progress=part.progress,
        )

    def ignore_index(self, model: "ModelConfig") -> int:
        return int(model.head_options.get("ignore_index", super().ignore_index(model)))

    def label_facts(self, target: "Target", image: "LargeImage", how: "LabelLook") -> "LabelFacts":
        from xt.tasks.label_facts import mask_facts

        mask: Any = target.on(image)
        with mask:
            return mask_facts(mask, how)

    def draw_labels(
        self, picture: "Image", target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "Image":
        from xt.tasks.label_pictures import with_mask

        mask: Any = target.on(image)
        with mask:
            return with_mask(picture, mask, class_names)

    def shown_labels(
        self, target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        from xt.results.shown import LABELS, ShownRaster

        mask: Any = target.on(image)
        return [
            ShownRaster(
                name=LABELS, title="labels", class_names=tuple(class_names),
                colours=tuple(self.colours(len(class_names))), raster=mask, meaning="classes", clear=0,
            )
        ]  # fmt: skip

    def colours(self, num_classes: int) -> list[Colour]:
        """Class 0, by habit the background, is black."""
        return class_colours(num_classes)

    def guess_files(self, paths: Sequence[str], given: Collection[str]) -> Guess:
        """Which classes there are, by the values of some masks."""
        from xt.tasks.mask_guess import guess_masks

        return guess_masks(paths, given)
