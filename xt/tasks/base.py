"""What a task is: it ties together a head, how its labels are read, what it is measured by and what is written.

Everything outside asks the task and knows no task's name. A task is cheap: it has no state, and what is heavy (torch,
metrics, drawing) is imported where it is used, so that a configuration can be read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

from xt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from xt.data.augmentation import Augmentation
    from xt.data.dataset import Reading, TableDataset
    from xt.data.splits import Splits
    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.labels.targets import Target
    from xt.metrics.bootstrap import Interval
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.results.colours import Colour
    from xt.results.shown import Shown
    from xt.tasks.label_facts import LabelFacts, LabelLook
    from xt.tasks.place_results import PlaceResults
    from xt.tasks.validation import Validation

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called as (what, done, total, values): what is going on, how far it is, and the newest numbers.

After each epoch of training, `values` has its number under "epoch" and the numbers of its row in `curves.csv`. After
each step it has the newest loss and validation, "regions/s" and "memory" in bytes: the largest so far, of the device if
that has a memory of its own.
"""


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Which images a table lists, before anything is said of their labels; see `xt.data.table_files.read_table`."""

    path: str | Path
    image_column: str = "image"
    split_column: str = "split"
    root: str | Path | None = None
    rows: Sequence[int] | None = None


class Guess(NamedTuple):
    """What labels seem to mean, where nobody says so.

    Attributes:
        labels: fields of the task's `Labels` with their values as people type them.
        told: why, as sentences.
    """

    labels: Mapping[str, str] = MappingProxyType({})
    told: tuple[str, ...] = ()


class Evaluated(Protocol):
    """How good a model was on the images of a table."""

    @property
    def table(self) -> "ImageTable":
        """What was measured on: of cases a row each, see `ImageTable.by_case`."""

    @property
    def score(self) -> float:
        """The metric that decides, see `Task.metric`."""

    @property
    def metrics(self) -> dict[str, float]:
        """All of them by name; NaN where there was nothing to measure."""

    @property
    def arrays(self) -> "dict[str, NDArray[Any]]":
        """What was predicted, with a row for each image, by what it is; empty for answers about every place."""

    def of_each(self) -> list[dict[str, Any]]:
        """Of each row of the table its label and what was predicted, by column; of places its own metrics."""

    @property
    def intervals(self) -> "Mapping[str, Interval]":
        """Of metrics, by `with_intervals`."""

    def averaged(self, others: "Sequence[Any]") -> "Evaluated":
        """What several models found together about the same images: the mean; only where there are `arrays`."""

    def summary(self) -> dict[str, Any]:
        """The metrics, fit for JSON: None where there was nothing to measure."""

    def with_intervals(self, resamples: int, progress: Progress) -> "Evaluated":
        """The same with 95 % intervals of the metrics by a bootstrap over images or their groups, where that can be
        had.

        Args:
            resamples: 0 for none.
        """

    def against(self, other: "Evaluated", name: str, resamples: int, progress: Progress) -> "Evaluated":
        """The same with how much better it is than another model on the same images, by a paired bootstrap.

        Args:
            name: of the other model.
        Raises:
            ConfigError: they cannot be compared.
        """

    def write(self, folder: Path) -> None:
        """Write metrics, and what they were taken from, to a folder.

        Raises:
            OutputError: the folder cannot be written to.
        """


class Task(ABC):
    """One kind of answer about images."""

    name: ClassVar[str]
    """Of the task, and of the head that it has by default."""
    Labels: ClassVar[type]
    """Frozen dataclass: which labels there are and where, the section `labels` of a run's configuration."""
    Evaluation: ClassVar[type]
    """Frozen dataclass: how it is measured, the section `evaluation`; may have no fields."""
    takes: ClassVar[str | None] = None
    """Which labels of a source that brings its own are for this task: "classes" (one an image), "points", "boxes";
    every task also takes tables that name its labels."""
    can_mix: ClassVar[bool] = False
    """Whether an image may be mixed of two, and its target with it, as mixup and CutMix do."""
    about_places: ClassVar[bool]
    """Whether it answers about every place of an image, or once about the whole of it."""
    metric: ClassVar[str]
    """The metric by which the best epoch is chosen, where `train.best` names no other."""
    best: ClassVar[Literal["max", "min"]] = "max"
    """Which value of it is best."""
    metric_of_rare: ClassVar[str | None] = None
    """The metric that decides in its place where rare classes are to count as much as frequent ones."""
    recipe: ClassVar[str]
    """Of `xt recipes`, for data of one's own."""
    recipe_settings: ClassVar[tuple[str, ...]] = ()
    """What it sets otherwise than recipes of whole images do, as `--section.key=value`."""
    columns: ClassVar[tuple[str, ...]] = ()
    """How the column of a table is usually called that has its labels, or names their files."""
    drawn_as: ClassVar[Literal["", "point", "box", "polygon"]] = ""
    """What a person draws to label an image, in a file that the last of `columns` names; "" where labels are in the
    table."""
    options: ClassVar[tuple[str, ...]] = ()
    """Those of `xt predict` that mean something to it, besides what all tasks have."""
    also: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Further forms in which its results can be written, `--also`, with the option each needs; "" for none."""

    has_classes: ClassVar[bool] = True
    """Whether the names of its outputs are classes."""
    counted: ClassVar[str]
    """What its labels are counted in, in the plural."""
    counts_are_shares: ClassVar[bool] = False
    """Whether there are so many that they are better told as shares of all."""

    @property
    def results(self) -> "type[PlaceResults] | None":
        """What answers about every place become on disk; None of answers about whole images."""
        return None

    @abstractmethod
    def dataset(
        self,
        table: "ImageTable",
        reading: "Reading",
        *,
        augmentation: "Augmentation | None" = None,
        seed: int = 0,
    ) -> "TableDataset":
        """The images of a table with their targets; see `xt.data.dataset.TableDataset`."""

    @abstractmethod
    def check(
        self,
        splits: "Splits",
        reading: "Reading",
        settings: Any,
        model: "ModelConfig",
        report: "Report | None" = None,
    ) -> None:
        """Refuse labels that are not of their images, and say which classes are never shown, before anything is
        computed.

        Args:
            settings: as of `evaluate`.
        Raises:
            TableError: labels do not fit, or there is nothing to learn from, or to choose an epoch by.
            ConfigError: labels do not fit the settings.
        """

    def check_measured(self, table: "ImageTable", settings: Any) -> None:
        """Warn of labels that cannot be measured by with these settings."""
        return

    def named(self, model: "ModelConfig", names: Sequence[str]) -> "ModelConfig":
        """The model with what its options say of classes by name in the order of the classes.

        Raises:
            ConfigError: a name is none of a class.
        """
        return model

    def of(self, model: "ModelConfig") -> Self:
        """The task as a model of it knows it, where that says more than its name."""
        return self

    def fitted(self, model: "ModelConfig", table: "ImageTable", labels: Any = None) -> "ModelConfig":
        """The model with those options of its head that are measured on the labels of training images.

        Args:
            labels: a `Labels` of this task, by which the table was read.
        Raises:
            ConfigError: options that are given do not fit the labels.
        """
        return model

    def check_outputs(self, table: "ImageTable") -> None:
        """Refuse a table from which nothing can be told apart.

        Raises:
            ConfigError: it has too few classes.
        """
        return

    @abstractmethod
    def evaluate(
        self,
        model: "XT",
        table: "ImageTable",
        reading: "Reading",
        settings: Any = None,
        *,
        batch_size: int = 4,
        report: "Report | None" = None,
        what: str = "evaluate",
    ) -> "Evaluated":
        """Measure a model on a table's images, on its device; the model is left in the mode it was in.

        Args:
            settings: an `Evaluation` of this task, or whatever has its fields; None for the defaults.
            batch_size: images at a time, >= 1, where they are not taken one by one; their files are open together.
            report: told about progress.
            what: it calls this.
        """

    def deciding(self, names: Sequence[str], settings: Any) -> dict[str, Literal["max", "min"]]:
        """The metrics by which the best epoch can be chosen, with which value of each is best: `train.best`.

        Args:
            names: of the model's outputs.
            settings: as of `evaluate`.
        """
        return {self.metric: self.best, "loss": "min"}

    def not_measured(self, table: "ImageTable", settings: Any) -> dict[str, str]:
        """The metrics that the labels of these images cannot tell, with why, as far as that is known beforehand."""
        return {}

    def pooled(
        self, table: "ImageTable", arrays: "Mapping[str, NDArray[Any]]", settings: Any
    ) -> "Evaluated | None":
        """What several models found, each for some images, as if one had; None where answers cannot be put together.

        Args:
            arrays: theirs, as of `Evaluated.arrays`, joined in the table's order.
            settings: as of `evaluate`.
        """
        return None

    @abstractmethod
    def validation(self, model: "XT", settings: Any) -> "Validation":
        """What is measured of the validation images of an epoch; `settings` as of `evaluate`."""

    def guess_labels(self, num_columns: int, labels: Sequence[str]) -> Guess | None:
        """What labels in a table's own columns mean if they are for this task; None where they are not, or may be for
        others just as well.

        Args:
            num_columns: that hold labels.
            labels: of one of them; none where the columns were named by hand.
        """
        return None

    def guess_files(self, paths: Sequence[str], given: Collection[str]) -> Guess:
        """What the labels in some files mean.

        Args:
            given: fields of `Labels` that are set already.
        """
        return Guess()

    def label_files(self, table: "ImageTable") -> "list[Target | None]":
        """Of each image the file that its label is in; None where the table itself has it."""
        return [None] * len(table)

    def classes_of_rows(self, table: "ImageTable") -> Iterator[tuple[int, dict[str, int]]]:
        """Of each row how much of each class its label shows, where the table itself has it."""
        yield from ()

    def label_facts(self, target: "Target", image: "LargeImage", how: "LabelLook") -> "LabelFacts":
        """Read all labels of an image that are in a file of their own.

        Raises:
            XTError: the labels are not of this image, or cannot be read.
        """
        raise NotImplementedError(f"labels of a {self.name} stand in the table")

    def draw_labels(
        self, picture: "Image", target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "Image":
        """A small picture of an image with its labels on it; args else as of `label_facts`."""
        return picture

    def shown_labels(
        self, target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        """Labels that are in a file of their own, as layers on the image; args and errors as of `label_facts`."""
        return []

    def colours(self, num_classes: int) -> "list[Colour]":
        """In which labels of the classes are drawn; none where they are not."""
        return []

    def ignore_index(self, model: "ModelConfig") -> int:
        """The class number of mask pixels that nothing is said about."""
        return 255

    def as_taken(self, image: "LargeImage", channels: int) -> "LargeImage":
        """An image as models of this task take it.

        Args:
            channels: of the model.
        """
        return image

    @abstractmethod
    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        """The images that a table lists, with their labels.

        Args:
            labels: a `Labels` of this task, or whatever has its fields.
            class_names: of a model that is there already; they come before those of `labels`.
            model: that the table is for.
        Raises:
            TableError: the table, a column or a file is missing, or a label is not as it should be.
            ConfigError: the settings do not fit the labels.
        """


def class_names(model: "XT") -> tuple[str, ...]:
    """The model's own names, or "0", "1", ... where it has none."""
    given = model.config.class_names
    return tuple(given) if given else tuple(str(number) for number in range(model.config.num_classes))
