"""What the configuration says of images wherever they come from: how they are divided, read and changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from xt.data.augmentation import Augmentation
from xt.data.folds import Fold, hold_out, pool
from xt.data.photos import Photos
from xt.data.splits import Splits, divide
from xt.errors import ConfigError
from xt.images.bands import ALPHA, Alpha
from xt.labels.image_table import ImageTable
from xt.option_types import in_range

View = Literal["whole", "downsample", "crop"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images and how they are read. By itself it is what is known where nothing says yet where they are."""

    kind: ClassVar[str] = ""
    """What the source is called in a configuration, and the field of it that says where it is."""
    gives: ClassVar[str | None] = None
    """Which labels it brings itself, as of `Task.takes`; None where the task's `labels` say where they are."""
    has_grey_among_coloured: ClassVar[bool] = False
    """Whether its images are photographs of which some are grey and are read as coloured ones."""

    validation_fraction: float = 0.15
    """Share of the images for validation, in [0, 1), where nothing but chance divides them; classes keep their
    shares."""
    test_fraction: float = 0.15
    """Share of the images for testing, in [0, 1), where nothing but chance divides them."""
    split_seed: int = 0
    """Seed of the division by chance, >= 0."""
    nodata: float | None = None
    """Pixel value that means 'nothing here', for files that do not say so themselves."""
    alpha: Alpha = ALPHA
    """What a band is that a file calls alpha. "validity": no channel; the others hold nothing where it is 0.
    "channel": a channel as they are, as for near infrared that a program has written as a fourth band."""
    tokens: str | None = None
    """Store that `xt encode` made of the images: no pixels are read, the region encoder's backbone comes from
    the store and stays as it is (`model.pretrained` has no part in it), and all else is trained."""
    features: str | None = None
    """Folder of features that other programs have found, a file (.h5, .pt) an image, as TRIDENT, CLAM and STAMP write
    them; or a store of `xt encode`, as `tokens`. No pixels are read, nor need they be there."""
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
        if self.encoded is not None:
            self._check_needs_no_pixels()
        in_range("data.validation_fraction", self.validation_fraction, 0, 1, upper_open=True)
        in_range("data.test_fraction", self.test_fraction, 0, 1, upper_open=True)
        if self.validation_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "data.validation_fraction + data.test_fraction must leave images for training (below 1), got "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        in_range("data.split_seed", self.split_seed, 0)
        in_range("data.crops", self.crops, 1)
        in_range("data.statistics_regions", self.statistics_regions, 1)

    @property
    def encoded(self) -> str | None:
        """Where features lie that stand for the images' pixels; None where there are none."""
        return self.tokens or self.features

    @property
    def has_cases(self) -> bool:
        """Whether several of its images may have one answer."""
        return False

    @property
    def place(self) -> str:
        """The file or folder that it was given by, for messages."""
        return str(getattr(self, self.kind)) if self.kind else "nothing"

    @property
    def split_names(self) -> tuple[str, str, str]:
        """What the splits for training, validation and test are called."""
        return "train", "val", "test"

    @property
    def evaluated_split(self) -> str:
        """The split that is measured where none is named."""
        return self.split_names[2]

    def divide(self, table: ImageTable) -> Splits:
        """The three parts of a table of its images."""
        train, validation, test = self.split_names
        return divide(
            table,
            train_split=train,
            validation_split=validation,
            test_split=test,
            validation_fraction=self.validation_fraction,
            test_fraction=self.test_fraction,
            seed=self.split_seed,
        )

    def pool(self, table: ImageTable) -> tuple[ImageTable, ImageTable | None]:
        """Of a table of its images those that folds are made of, and those for testing that no fold has."""
        return pool(table, self.split_names)

    def hold_out(self, table: ImageTable, fold: Fold) -> Splits:
        """The three parts where a fold is held out."""
        images, _ = self.pool(table)
        return hold_out(images, fold, validation_fraction=self.validation_fraction, seed=self.split_seed)

    def read(self, class_names: Sequence[str] | None) -> ImageTable:
        """Its images with the labels that it gives.

        Args:
            class_names: in the order of a model's outputs; None for its own.
        Raises:
            TableError: a file is missing or not what it should be.
        """
        raise ConfigError("nothing says where the images are: give data.table, or what else names a source")

    def count_rows(self) -> int | None:
        """The number of images, where each can be read alone."""
        return None

    def image_paths(self, rows: Sequence[int] | None = None) -> Sequence[Path]:
        """Its images without what is known of them; `rows` of them alone where `count_rows` gives a number."""
        return self.read(None).paths

    def microns(self, rows: Sequence[int] | None = None) -> tuple[float | None, ...] | None:
        """Micrometres a pixel of every image, where the source knows it and files may not."""
        return None

    def groups(self, rows: Sequence[int] | None = None) -> tuple[str, ...] | None:
        """What every image belongs to, where the source says it."""
        return None

    def cases(self, rows: Sequence[int] | None = None) -> tuple[str, ...] | None:
        """The case that every image is of, where several images have one answer and the source says it."""
        return None

    def likely_groups(self) -> Mapping[str, Sequence[str]]:
        """What every image may belong to, by columns that are called as groups are and not named as such."""
        return {}

    def _check_needs_no_pixels(self) -> None:
        name = "tokens" if self.tokens else "features"
        if self.tokens and self.features:
            raise ConfigError("data.tokens and data.features both stand for the pixels: give one of them")
        if self.view != "whole":
            raise ConfigError(
                f"data.{name} holds whole images, so data.view must be 'whole', got {self.view!r}; the baselines of "
                f"`xt compare` need the pixels: leave data.{name} out"
            )
        changes = ("brightness", "contrast", "saturation", "train_size")
        wanted = [f"data.augmentation.{name}" for name in changes if getattr(self.augmentation, name)]
        if wanted:
            raise ConfigError(
                f"{' and '.join(wanted)} need{'s' if len(wanted) == 1 else ''} pixels, and data.{name} has none: leave "
                "out either"
            )


@dataclass(frozen=True, kw_only=True)
class NamedSplits(Source):
    """Images whose splits have names of the user's own."""

    train_split: str = "train"
    """Name of the training split."""
    validation_split: str = "val"
    """Name of the validation split; the best epoch is chosen on it."""
    test_split: str = "test"
    """Name of the test split."""

    @property
    def split_names(self) -> tuple[str, str, str]:
        return self.train_split, self.validation_split, self.test_split
