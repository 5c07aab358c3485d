"""What `xt.predict`, `xt.evaluate` and `xt.encode` are told besides the model, the images and where results go."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from xt.errors import ConfigError, OptionError
from xt.images.bands import ALPHAS, Alpha
from xt.registry import nearest

# About a minute of a small region encoder on a GPU.
REGIONS_PER_BAND = 4096
Options = TypeVar("Options")
EMBEDDING, TOKENS = "embeddings/.h5", "token_embeddings/.h5"
"""Files of an image that lie in folders of their own, under its name alone, as programs that read features want it."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How images are predicted and what is written; options of other tasks than the model's are refused."""

    nodata: float | None = None
    """Pixel value that means "nothing here", for files that do not say; None for that of the model's training."""
    alpha: Alpha | None = None
    """What a band is that a file calls alpha; None for what it was in training."""
    microns_per_pixel: float | None = None
    """Resolution of slides whose files do not say it, > 0."""
    image_column: str | None = None
    """Column of the image paths in tables; None for that of the model's training."""
    case_column: str | None = None
    """Column of the case that an image is of, in tables; None for that of the model's training."""
    root: str | None = None
    """Folder that relative image paths in tables start from."""
    features: str | None = None
    """Folder of features that stand for the pixels of images that are named, or a store of `xt encode`; None for
    pixels, and for the run's own folder where the model takes features alone."""
    region_batch: int | None = None
    """Regions on the device at one time, >= 1; None for as many as are fast and fit."""
    device: str | None = None
    """cuda, cuda:1, cpu ...; None for the first GPU if there is one, else the CPU."""
    budget: float | None = None
    """Regions that are looked at, up to 1 as a share of all at full resolution, above 1 as a number; plain ones are
    then seen coarsely. None for what the model was trained with."""
    seconds_per_image: float | None = None
    """How long each image is looked at, in place of a budget: coarsely first, then as closely as there is time for, >
    0; masks, points and boxes with their decoding."""
    embeddings: bool = False
    """Whole images: also a vector of each image, pooled before the last layer, as HDF5 and in one Parquet table."""
    token_embeddings: bool = False
    """Whole images: also a vector of each token, as HDF5."""
    overlay: bool = True
    """Whether a PNG to look at is written for each image."""
    overwrite: bool = False
    """Predict these images again, and throw away the folder's results of another model."""

    views: Literal[1, 4, 8] | None = None
    """Answers about whole images: the mean over the image as it is (1, None), also flipped (4), also turned (8)."""

    also: tuple[str, ...] = ()
    """Further forms of what is written: of points, boxes and outlines geoparquet and gpkg, of masks ome-zarr, of
    embeddings anndata."""
    probabilities: bool = False
    """Segmentation: also a GeoTIFF of 8 bits for each class."""
    outlines: tuple[str, ...] | None = None
    """Segmentation: also polygons of these classes; () for all but the first."""
    least_area: int | None = None
    """Segmentation: outlines of fewer pixels are left out, >= 1."""
    merge_radius: float | None = None
    """Points closer than this, in pixels of the file, are one; None for what the model's head says."""
    merge_iou: float | None = None
    """Of boxes of one class that overlap by more the better one is kept, between 0 and 1; None for what the head
    says."""
    least_score: float | None = None
    """Points and boxes of lower scores are left out, in [0, 1]; None for 0.5 for boxes (with `instances` for 0), and
    for points for what the head says."""
    instances: str | None = None
    """Detection: COCO's instances file, whose numbers of images and classes `detections.json` takes."""
    channels: tuple[str, ...] = ("vh", "vv")
    """Of xView3 scenes, in the model's order."""
    restart: bool = False
    """Begin anew an image that an earlier run left unfinished."""

    workers: int | None = None
    """Processes, one on each GPU or all on the CPU, >= 1; with `cluster` workers of it; None for this process."""
    cluster: str | None = None
    """Address of a Ray cluster: auto, HOST:6379, ray://HOST:10001, or local for one of this machine."""
    band_regions: int = REGIONS_PER_BAND
    """An image of more regions is decoded by several workers, so many regions each, >= 1."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"<workers> must be at least 1, got {self.workers}")
        if self.views not in (None, 1, 4, 8):
            raise OptionError(
                f"<views> must be 1, 4 (flips) or 8 (flips and quarter turns), got {self.views}"
            )
        if self.seconds_per_image is not None:
            self._check_seconds(self.seconds_per_image)
        if self.band_regions < 1:
            raise OptionError(f"<band_regions> must be at least 1, got {self.band_regions}")
        if self.cluster is not None and self.device not in (None, "cpu", "cuda"):
            raise OptionError(
                f"<device> {self.device} with <cluster>: Ray gives each worker its GPU; leave it out, or say cpu"
            )
        _check_alpha(self.alpha)
        _make_tuples(self, "outlines", "channels", "also")

    def _check_seconds(self, seconds: float) -> None:
        if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise OptionError(f"<seconds_per_image> must be a number above 0, got {seconds!r}")
        for name in ("budget", "views"):
            if getattr(self, name) not in (None, 1):
                raise OptionError(
                    f"<seconds_per_image> says how long an image is looked at, and <{name}> how much of it: leave one "
                    "of the two out"
                )

    @property
    def has_workers(self) -> bool:
        return self.cluster is not None or self.workers is not None

    @property
    def of_results(self) -> dict[str, object]:
        """What makes another result of the same image and model, as JSON values."""
        given = {
            "nodata": self.nodata,
            "alpha": self.alpha,
            "microns_per_pixel": self.microns_per_pixel,
            "views": self.views,
            "budget": self.budget,
            "seconds_per_image": self.seconds_per_image,
            "outlines": sorted(self.outlines or ()) or None,
            "least_area": self.least_area,
            "merge_radius": self.merge_radius,
            "merge_iou": self.merge_iou,
            "least_score": self.chosen_least_score,
            "also": sorted(self.also) or None,
            "features": self.features,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def chosen_least_score(self) -> float | None:
        """None for what is usual for the model's task."""
        if self.least_score is None and self.instances is not None:
            # Who has the labels' file measures average precision, which boxes of any score belong to.
            return 0.0
        return self.least_score

    @property
    def endings(self) -> set[str]:
        """Of files that these options ask for."""
        wanted = {
            ".probabilities.tif": self.probabilities,
            ".outlines.geojson": self.outlines is not None,
            ".overlay.png": self.overlay,
            EMBEDDING: self.embeddings,
            TOKENS: self.token_embeddings,
        }
        return {ending for ending, is_wanted in wanted.items() if is_wanted}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How labelled images are read and measured; what is None is as in training."""

    split: str | None = None
    """Images of this split; "all" for every row; None for the test images if there are splits, else all."""
    root: str | None = None
    """Folder that relative image paths start from."""
    image_column: str | None = None
    """Column of the image paths."""
    label_columns: tuple[str, ...] | None = None
    """Columns of the labels."""
    label_separator: str | None = None
    """What stands between several labels of one image."""
    mask_column: str | None = None
    """Segmentation: column of the masks' paths."""
    points_column: str | None = None
    """Points: column of the paths of points."""
    scenes: str | None = None
    """Points: folder of xView3 scenes that the source has the labels of."""
    split_column: str | None = None
    """Column of the split's name."""
    case_column: str | None = None
    """Column of the case that an image is of, where several images have one answer."""
    features: str | None = None
    """Folder of features that stand for the images' pixels, or a store of `xt encode`; None for pixels, or for the
    run's own where the model takes features alone."""
    distance: float | None = None
    """Points: of a found one and a labelled one that are the same."""
    distance_unit: Literal["pixels", "map"] | None = None
    """Points: what `distance` is in."""
    score_threshold: float | None = None
    """Points with a lower score are left out."""
    max_detections: tuple[int, ...] | None = None
    """Detection: three rising caps on the boxes of an image, COCO's are 1, 10, 100."""
    specificity: float | None = None
    """Classification and multilabel: at which `sensitivity_at_specificity` is given, in (0, 1)."""
    against: str | None = None
    """Another model, a run folder or a file, that is measured on the same images: how much better the first one is, by
    a paired bootstrap."""
    budget: float | None = None
    """Regions of an image that are looked at, as of `PredictConfig`."""
    against_all: bool = False
    """Also look at everything at full resolution: how often the answers differ, and what that costs and gains."""
    resamples: int = 1000
    """Of the images, or of their groups, by which intervals are found; 0 for none."""
    nodata: float | None = None
    """Pixel value that means "nothing here"."""
    alpha: Alpha | None = None
    """What a band is that a file calls alpha."""
    batch_size: int = 4
    """Images at a time, >= 1."""
    region_batch: int | None = None
    """Regions on the device at one time, >= 1; None for as many as are fast and fit."""
    device: str | None = None
    """cuda, cuda:1, cpu ...; None for the first GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"<batch_size> must be at least 1, got {self.batch_size}")
        if self.resamples < 0:
            raise OptionError(f"<resamples> must be at least 0, got {self.resamples}")
        if self.against is not None and not self.resamples:
            raise OptionError("<against> compares by resamples, and <resamples> is 0: leave one of them out")
        if self.against_all and (self.against is not None or not self.resamples):
            raise OptionError(
                "<against_all> compares a model with itself by resamples: leave <against> out, and <resamples> above 0"
            )
        _check_alpha(self.alpha)
        _make_tuples(self, "label_columns", "max_detections")


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """How images are encoded; what is None is as in the run."""

    dtype: Literal["float16", "float32"] | None = None
    """Of what is stored; None for that of the store, or float16."""
    views: Literal[1, 4, 8] | None = None
    """1: each image as it is; 4: also flipped; 8: also turned; for training with such augmentation."""
    image_column: str | None = None
    """Column of the image paths in tables."""
    root: str | None = None
    """Folder that relative image paths in tables start from."""
    nodata: float | None = None
    """Pixel value that means "nothing here"."""
    alpha: Alpha | None = None
    """What a band is that a file calls alpha."""
    microns_per_pixel: float | None = None
    """Resolution of slides whose files do not say it, nor a table's column, > 0."""
    region_batch: int | None = None
    """Regions on the device at one time, >= 1; None for as many as are fast and fit."""
    device: str | None = None
    """cuda, cuda:1, cpu ...; None for the first GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)


def with_options(config: Options, options: Mapping[str, Any]) -> Options:
    """The configuration with these options in place of its own.

    Raises:
        ConfigError: there is no such option, or a value is out of range.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"there is no option {name!r}{nearest(name, known)}; there are {', '.join(known)}"
            )
    return replace(config, **options)  # type: ignore[type-var]


def _check_alpha(alpha: str | None) -> None:
    if alpha is not None and alpha not in ALPHAS:
        raise OptionError(f"<alpha> must be {' or '.join(ALPHAS)}, got {alpha!r}")


def _make_tuples(config: object, *names: str) -> None:
    """Lists are taken for tuples, and one text for a list of one."""
    for name in names:
        value = getattr(config, name)
        if value is not None:
            object.__setattr__(config, name, (value,) if isinstance(value, str) else tuple(value))
