"""The configuration of a run: frozen dataclasses, each field with its unit and range.

`xt.configuration_parser` fills them from YAML and the command line.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Literal

from xt.data.augmentation import Augmentation
from xt.data.photos import Photos
from xt.data.xview3 import NODATA
from xt.errors import ConfigError
from xt.model_config import ModelConfig
from xt.streaming import Keep

View = Literal["whole", "downsample", "crop"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"]


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
    """Segmentation: column of the masks' paths, images of one channel that holds class numbers."""
    mask_values: tuple[int, ...] | None = None
    """Segmentation: the masks' pixel value of each class, in the classes' order, such as [0, 255]; without it, they are
    class numbers."""
    mask_nodata: float | None = None
    """Segmentation: the masks' pixel value where nothing is known, for files that do not say so themselves; 255
    (`model.head_options.ignore_index`) means so anyway."""
    points_column: str = "points"
    """Points: column of the paths of GeoJSON or CSV files (columns y and x in pixels, or map_y and map_x, or latitude
    and longitude); the class is their column `class` or `label`, or what `label_columns` says."""
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

    def __post_init__(self) -> None:
        given = [
            name
            for name in ("table", "folder", "scenes", "coco")
            if getattr(self, name) not in (None, (), [])
        ]
        given += ["inaturalist"] if self.inaturalist is not None else []
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
        if self.class_names is not None and len(set(self.class_names)) != len(self.class_names):
            raise ConfigError(f"data.class_names must be different from each other, got {self.class_names}")
        _in_range("data.validation_fraction", self.validation_fraction, 0, 1, upper_open=True)
        _in_range("data.test_fraction", self.test_fraction, 0, 1, upper_open=True)
        if self.validation_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "data.validation_fraction + data.test_fraction must leave images for training (below 1), got "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        if self.tokens is not None:
            self._check_needs_no_pixels()
        _in_range("data.split_seed", self.split_seed, 0)
        _in_range("data.crops", self.crops, 1)
        _in_range("data.statistics_regions", self.statistics_regions, 1)

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


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with a warm-up and a cosine."""

    lr: float = 3e-4
    """Highest learning rate of context encoder and head, > 0."""
    encoder_lr_factor: float = 1.0
    """The region encoder's learning rate as a factor of `lr`, >= 0; 0 freezes the region encoder."""
    layer_decay: float = 0.75
    """Each layer of the region encoder learns at this factor of the rate of the layer after it, in (0, 1]."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, >= 0; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's two moments, each in [0, 1)."""
    warmup: float = 0.05
    """Share of the run during which the learning rate rises, in [0, 1)."""
    final_lr_factor: float = 0.01
    """The last learning rate as a factor of the highest, in [0, 1]."""

    def __post_init__(self) -> None:
        _in_range("optim.lr", self.lr, 0, lower_open=True)
        _in_range("optim.encoder_lr_factor", self.encoder_lr_factor, 0)
        _in_range("optim.layer_decay", self.layer_decay, 0, 1, lower_open=True)
        _in_range("optim.weight_decay", self.weight_decay, 0)
        for beta in self.betas:
            _in_range("optim.betas", beta, 0, 1, upper_open=True)
        _in_range("optim.warmup", self.warmup, 0, 1, upper_open=True)
        _in_range("optim.final_lr_factor", self.final_lr_factor, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, on what and where to a run goes."""

    out: str = "runs/xt"
    """Folder of the run: checkpoints, logs, `model.safetensors`, `config.yaml`, `metrics.json`."""
    epochs: int = 30
    """Passes over the training images, >= 1."""
    max_seconds: float | None = None
    """Training time in seconds, validation not counted, after which the run ends even before `epochs`, >
    0."""
    batch_size: int = 8
    """Images of a step on one device, >= 1."""
    accumulate: int = 1
    """Steps whose gradients are added up before the weights change, >= 1."""
    gradient_clip: float = 1.0
    """Longest gradient (Euclidean norm), >= 0; 0 does not clip."""
    precision: Precision = "auto"
    """Arithmetic as Lightning names it; 'auto' is bf16-mixed on a CUDA device that has it, else 32-true."""
    accelerator: str = "auto"
    """Lightning's accelerator: auto, cpu, gpu ..."""
    devices: int | Literal["auto"] = "auto"
    """Devices on this machine, >= 1, or 'auto' for all; on the CPU, 'auto' is one process."""
    nodes: int = 1
    """Machines, >= 1; each is told how to find the others by torchrun or Slurm."""
    region_parallel: int = 1
    """Devices that share out the regions of one image, >= 1; divides the number of all devices. The others have other
    images."""
    strategy: str = "auto"
    """Lightning's strategy: auto, ddp ..."""
    region_batch: int | None = None
    """Regions on the device at one time, >= 1; null for as many as are fast and fit, as `xt plan` says."""
    keep: Keep = "none"
    """Activations held for the backward pass: 'none' computes all again, 'all' nothing, 'auto' as the
    device's memory allows, or a number of bytes."""
    gradient_fraction: float = 1.0
    """Share of the region batches that carry gradient to the region encoder, drawn anew at each step, in (0,
    1]."""
    compile: bool = False
    """Whether torch.compile makes the region encoder faster; the first step then takes minutes."""
    seed: int = 0
    """Seed of weights, order, augmentation and dropout, >= 0."""
    resume: str = "none"
    """'none' starts anew, 'auto' goes on from the run folder's last checkpoint if there is one, else a
    checkpoint."""
    checkpoint_every: str = "10 minutes"
    """How much is lost at most when a run is killed, such as '10 minutes' or '500 steps'; 'epoch' writes checkpoints at
    the ends of epochs only."""
    init_encoder: str | None = None
    """A safetensors file with weights of the region encoder to start from."""
    validate_every: int = 1
    """Epochs between two validations, >= 1."""
    progress: bool = True
    """Whether a progress bar is shown."""

    def __post_init__(self) -> None:
        parse_interval(self.checkpoint_every)
        for name in ("epochs", "batch_size", "accumulate", "validate_every", "nodes", "region_parallel"):
            _in_range(f"train.{name}", getattr(self, name), 1)
        if self.region_batch is not None:
            _in_range("train.region_batch", self.region_batch, 1)
        _in_range("train.gradient_clip", self.gradient_clip, 0)
        _in_range("train.gradient_fraction", self.gradient_fraction, 0, 1, lower_open=True)
        _in_range("train.seed", self.seed, 0)
        if self.max_seconds is not None:
            _in_range("train.max_seconds", self.max_seconds, 0, lower_open=True)
        if isinstance(self.devices, int):
            _in_range("train.devices", self.devices, 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How points and boxes are measured; the metrics of other tasks need no settings."""

    distance: float = 10.0
    """The largest distance between a point that was found and the one it is, > 0."""
    distance_unit: Literal["pixels", "map"] = "pixels"
    """What `distance` is in: pixels, or units of the images' coordinate system (often metres)."""
    score_threshold: float = 0.5
    """Points with a lower score do not count as found, in [0, 1]."""
    max_detections: tuple[int, int, int] = (1, 10, 100)
    """Boxes of an image that count, those of the highest scores, >= 1 and rising: three caps for average recall, the
    last of which is also that for average precision and the most boxes an image may have, of all classes together.
    COCO's own; images with more objects than 100 need more."""

    def __post_init__(self) -> None:
        caps = self.max_detections
        if not 1 <= caps[0] < caps[1] < caps[2]:
            raise ConfigError(
                f"evaluation.max_detections must be three rising numbers from 1 on, got {tuple(caps)}"
            )
        _in_range("evaluation.distance", self.distance, 0, lower_open=True)
        _in_range("evaluation.score_threshold", self.score_threshold, 0, 1)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `xt compare` holds equal between down-sampling, cropping and xT."""

    contestants: tuple[Literal["downsample", "crop", "xt"], ...] = ("downsample", "crop", "xt")
    """Who takes part, in this order."""
    budget: Literal["passes", "seconds"] = "passes"
    """'passes': every contestant sees each training image `train.epochs` times. 'seconds': every contestant
    trains for `seconds`, however often it sees the images in that time."""
    seconds: float | None = None
    """Training time of each contestant in seconds, > 0; needed with (and only with) budget 'seconds'."""

    def __post_init__(self) -> None:
        if not self.contestants or len(set(self.contestants)) != len(self.contestants):
            raise ConfigError(
                f"compare.contestants must be different from each other, got {self.contestants}"
            )
        if (self.budget == "seconds") != (self.seconds is not None):
            raise ConfigError(
                "compare.seconds is needed with compare.budget 'seconds' and has no meaning with 'passes', "
                "got budget "
                f"{self.budget!r} and seconds {self.seconds}"
            )
        if self.seconds is not None:
            _in_range("compare.seconds", self.seconds, 0, lower_open=True)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes."""

    model: ModelConfig
    """The model; `num_classes` and `class_names` come from the data when left out."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images, labels, splits, augmentation."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and learning rates."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Duration, devices, run folder."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """When a point counts as found."""
    compare: CompareConfig = field(default_factory=CompareConfig)
    """Only for `xt compare`."""

    def __post_init__(self) -> None:
        if self.model.image_size is None:
            if self.data.photos != Photos():
                raise ConfigError(
                    "data.photos is about images that are read whole and resized to one size: set model.image_size to "
                    "that size, or leave data.photos out (data.augmentation changes images of any size)"
                )
            return
        whole = DataConfig()
        for name in ("augmentation", "view", "crops", "tokens", "nodata"):
            if getattr(self.data, name) != getattr(whole, name):
                raise ConfigError(
                    f"data.{name} is about images that are read region by region, but model.image_size has them read "
                    "whole and resized: leave one of them out"
                    + (
                        "; data.photos has the random changes of photographs"
                        if name == "augmentation"
                        else ""
                    )
                )
        if self.data.photos.mixes and self.model.head != "classification":
            raise ConfigError(
                f"data.photos.mixup and cutmix mix classes, but model.head is {self.model.head!r}: leave them out"
            )


def parse_interval(text: str) -> int | timedelta | None:
    """Steps or time between two checkpoints; None for the ends of epochs only.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "epoch":
        return None
    number, _, unit = text.partition(" ")
    with suppress(ValueError):
        if unit in ("step", "steps") and int(number) >= 1:
            return int(number)
        if unit in ("minute", "minutes") and 0 < float(number) < inf:
            return timedelta(minutes=float(number))
    raise ConfigError(
        f"train.checkpoint_every must read as '10 minutes', '500 steps' or 'epoch', got {text!r}"
    )


def _in_range(
    name: str,
    value: float,
    low: float,
    high: float = float("inf"),
    *,
    lower_open: bool = False,
    upper_open: bool = False,
) -> None:
    above = value > low if lower_open else value >= low
    below = value < high if upper_open else value <= high
    if above and below:
        return
    if high == float("inf"):
        expected = f"{'>' if lower_open else '>='} {low}"
    else:
        expected = f"in {'(' if lower_open else '['}{low}, {high}{')' if upper_open else ']'}"
    raise ConfigError(f"{name} must be {expected}, got {value}")
