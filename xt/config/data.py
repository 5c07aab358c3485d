"""The part of a run's configuration that says where images and labels are; see `xt.config.run`."""

from dataclasses import dataclass, field
from typing import Literal

from xt.data.augmentation import Augmentation
from xt.data.photos import Photos
from xt.data.xview3 import NODATA
from xt.errors import ConfigError
from xt.images.bands import ALPHA, Alpha
from xt.labels.formats.columns import class_name
from xt.option_types import in_range

View = Literal["whole", "downsample", "crop"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images and their labels are, and how they are divided."""

    table: str | None = None
    """CSV or Parquet file with one row per image; either this or `folder`."""
    folder: str | None = None
    """Folder with one sub-folder of images per class; either this or `table`."""
    root: str | None = None
    """Folder that relative image paths start from; without it, the table's own folder."""
    image_column: str = "image"
    """Column of the image paths."""
    label_columns: tuple[str, ...] = ("label",)
    """Column of the label; several columns of 0 and 1 for multi-label, of numbers for regression."""
    mask_column: str = "mask"
    """Segmentation: column of the masks' paths, images of one channel that holds class numbers, or files of polygons
    (GeoJSON, also QuPath's, GeoPackage, shapefile, KML, FlatGeobuf, GeoParquet), whose class is their property `class`
    or `label`, or what `label_columns` says; a column `polygons` is taken, too, where there is none called `mask`."""
    mask_values: tuple[int, ...] | None = None
    """Segmentation: the masks' pixel value of each class, in the classes' order, such as [0, 255]; without it, they are
    class numbers."""
    mask_nodata: float | None = None
    """Segmentation: the masks' pixel value where nothing is known, for files that do not say so themselves, or that
    say so of a class; 255 (`model.head_options.ignore_index`) means so anyway."""
    unlabelled: str = "ignored"
    """Segmentation by polygons: the class of pixels that no polygon covers, such as background; with "ignored" nothing
    is known about them. A column of this name in the table says it for a row."""
    polygon_order: Literal["area", "file"] = "area"
    """Segmentation by polygons: which lies on top where some overlap: "area": the smaller; "file": the later in the
    file."""
    layer: str | None = None
    """Which layer of files that have several, such as GeoPackages; a column of this name in the table says it for a
    row."""
    points_column: str = "points"
    """Points: column of the paths of files: CSV (columns y and x in pixels, or map_y and map_x, or latitude and
    longitude), GeoJSON and the other files that `mask_column` takes; the class is their column `class` or `label`, or
    what `label_columns` says."""
    boxes_column: str = "boxes"
    """Detection, with `table`: column of the paths of files of polygons, around which the boxes are."""
    scenes: str | None = None
    """Points: folder of xView3-SAR scenes, instead of a table."""
    scene_labels: tuple[str, ...] = ()
    """The scenes' CSV of labels; two or three are those of training, validation and test. Scenes that are not in both
    the folder and the CSV are left out."""
    scene_channels: tuple[str, ...] = ("vh", "vv")
    """Of the scenes: vh, vv, bathymetry, wind_speed, wind_direction, wind_quality, mask."""
    scene_confidences: tuple[str, ...] = ("HIGH", "MEDIUM")
    """Of the scenes' labels that count: HIGH, MEDIUM, LOW."""
    inaturalist: str | None = None
    """Classes: folder that iNaturalist 2018 was unpacked to, with train2018.json, val2018.json and, for the species'
    names, categories.json."""
    inaturalist_classes: tuple[str, ...] = ()
    """Which of its species: supercategories such as Reptilia, other groups, species or category numbers; all without
    any."""
    coco: tuple[str, ...] = ()
    """Detection: JSON file of COCO instances; two or three are those of training, validation and test."""
    images: tuple[str, ...] = ()
    """Detection: folder that the file names in `coco` start from, one for all or one for each; without it, each JSON
    file's own folder."""
    microns_column: str = "microns_per_pixel"
    """Column of the resolution of slides, in micrometres, for files that do not say it; the table need not have it."""
    label_separator: str | None = None
    """Multi-label in one column: what stands between two labels of one image, such as ';'."""
    class_names: tuple[str, ...] | None = None
    """Classes in the order of the model's outputs (of a mask: its class numbers); without it, the sorted labels."""
    split_column: str = "split"
    """Column of the split's name; a table that has no column `split` is divided by chance, as the fractions
    say."""
    train_split: str = "train"
    """Name of the training split in the split column."""
    validation_split: str = "val"
    """Name of the validation split in the split column; the best epoch is chosen on it."""
    test_split: str = "test"
    """Name of the test split in the split column."""
    validation_fraction: float = 0.15
    """Share of the images for validation when divided by chance, in [0, 1); the classes keep their shares."""
    test_fraction: float = 0.15
    """Share of the images for testing when divided by chance, in [0, 1)."""
    split_seed: int = 0
    """Seed of the division by chance, >= 0."""
    nodata: float | None = None
    """Pixel value that means 'nothing here', for files that do not say so themselves; of scenes it is -32768."""
    alpha: Alpha = ALPHA
    """What a band is that a file calls alpha. "validity": no channel; the others hold nothing where it is 0.
    "channel": a channel as they are, as for near infrared that a program has written as a fourth band."""
    tokens: str | None = None
    """Store that `xt encode` made of the images: no pixels are read, the region encoder's backbone comes from
    the store and stays as it is (`model.pretrained` has no part in it), and all else is trained."""
    view: View = "whole"
    """What the model is given of an image: all of it, or (the baselines of `xt compare`) the image averaged
    down to one region, or one crop of the size of a region."""
    crops: int = 1
    """With view 'crop', the crops per side that evaluation averages over, >= 1; 1 is the centre crop."""
    statistics_regions: int = 256
    """Training regions on which the pixel mean and standard deviation are measured, >= 1."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the training images."""
    photos: Photos = field(default_factory=Photos)
    """With `model.image_size`: how photographs are read, and their random changes, instead of `augmentation`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The settings that say where the images are: one, or none yet."""
        names = ("table", "folder", "scenes", "coco", "inaturalist")
        return tuple(name for name in names if getattr(self, name) not in (None, (), []))

    def __post_init__(self) -> None:
        given = self.sources
        if len(given) > 1:
            raise ConfigError(
                f"{' and '.join(f'data.{name}' for name in given)} were both given; give one of them"
            )
        if self.inaturalist_classes and self.inaturalist is None:
            raise ConfigError(
                "data.inaturalist_classes needs data.inaturalist, the folder that they are chosen from"
            )
        if (self.scenes is None) != (not self.scene_labels):
            raise ConfigError("data.scenes and data.scene_labels go together; give both or neither")
        if self.scenes is not None and self.nodata is None:
            object.__setattr__(self, "nodata", NODATA)
        if not self.label_columns:
            raise ConfigError("data.label_columns must name at least one column")
        if self.label_separator is not None and (not self.label_separator or len(self.label_columns) > 1):
            raise ConfigError(
                "data.label_separator must be a non-empty text and stands with one label column only, got "
                f"{self.label_separator!r} with columns {', '.join(self.label_columns)}"
            )
        if self.class_names is not None:
            names = [class_name(name) for name in self.class_names]
            if "" in names:
                raise ConfigError(f"data.class_names must not be empty, got {self.class_names}")
            if len(set(names)) != len(names):
                raise ConfigError(
                    f"data.class_names must be different from each other, got {self.class_names}"
                )
        in_range("data.validation_fraction", self.validation_fraction, 0, 1, upper_open=True)
        in_range("data.test_fraction", self.test_fraction, 0, 1, upper_open=True)
        if self.validation_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "data.validation_fraction + data.test_fraction must leave images for training (below 1), got "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        if self.tokens is not None:
            self._check_needs_no_pixels()
        in_range("data.split_seed", self.split_seed, 0)
        in_range("data.crops", self.crops, 1)
        in_range("data.statistics_regions", self.statistics_regions, 1)

    def _check_needs_no_pixels(self) -> None:
        if self.view != "whole":
            raise ConfigError(
                f"data.tokens holds whole images, so data.view must be 'whole', got {self.view!r}; the baselines of "
                "`xt compare` need the pixels: leave data.tokens out"
            )
        changes = ("brightness", "contrast", "saturation", "train_size")
        wanted = [f"data.augmentation.{name}" for name in changes if getattr(self.augmentation, name)]
        if wanted:
            raise ConfigError(
                f"{' and '.join(wanted)} need{'s' if len(wanted) == 1 else ''} pixels, and data.tokens has none: leave "
                "out either"
            )
