"""A class for every pixel."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from xt.tasks.label_fields import FileLabels, NoSettings
from xt.tasks.places import PlaceTask


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
