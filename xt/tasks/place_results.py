"""What answers about every place become on disk: one interface, a class for each kind of them.

    decoded regions ─ PlaceResults.stored ─► RegionStore ─ PlaceResults.write ─► files ─ PlaceResults.draw ─► a picture

Nothing here knows how regions are decoded (`xt.prediction.dense_predictor`), and nothing there what is in the files.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.output import remove_leftovers_of
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions
from xt.results.region_store import RegionStore
from xt.results.vector_files import SUFFIXES
from xt.tasks.base import class_names

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.images.resolution import AsRead
    from xt.model.xt import XT
    from xt.results.reached import Reached
    from xt.results.seen_regions import SeenRegions
    from xt.results.shown import Shown

Rows = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """What to write.

    Attributes:
        probabilities: of a segmentation, as a second GeoTIFF.
        outlines: class numbers of a segmentation whose outlines are wanted as polygons.
        least_area: of an outline, in pixels of the file, at least 1.
        merge_radius: points closer than this, in pixels of the file, are one (the better one); None for what the
            model's head says, in pixels as it reads the image.
        merge_iou: of two boxes of one class whose intersection is more than this part of their union, between 0 and 1,
            the better one is kept; None for what the model's head says.
        least_score: of points and boxes, in [0, 1]; those the model's head leaves out stay out. None for all points of
            the head, and for boxes of at least `PlaceResults.least_score`.
        also: further forms of the files, of those in `Task.also`.
        restart: begin anew where a partial result lies.
    """

    probabilities: bool = False
    outlines: tuple[int, ...] = ()
    least_area: int = 1
    merge_radius: float | None = None
    merge_iou: float | None = None
    least_score: float | None = None
    also: tuple[str, ...] = ()
    restart: bool = False

    def __post_init__(self) -> None:
        if self.least_area < 1:
            raise ConfigError(f"least_area must be at least 1 pixel, got {self.least_area}")
        if self.merge_radius is not None and not self.merge_radius >= 0:
            raise ConfigError(f"merge_radius must be at least 0 pixels, got {self.merge_radius}")
        if self.merge_iou is not None and not 0 < self.merge_iou < 1:
            raise ConfigError(f"merge_iou must be between 0 and 1, got {self.merge_iou}")
        if self.least_score is not None and not 0 <= self.least_score <= 1:
            raise ConfigError(f"least_score must be in [0, 1], got {self.least_score}")


@dataclass(frozen=True, kw_only=True)
class DenseResult:
    """What was predicted for one image.

    Attributes:
        name: the image's.
        task: its name.
        files: those that were written, by keys of the task's `endings`.
        counts: of pixels, points or boxes, by class name.
        left_out: points or boxes whose score is too low, before those found twice are one.
        regions: that were decoded, in pixels as the model reads the image: each place lies in one of them.
        looked: the same in pixels of the file, where they are not all at full resolution.
        reached: how far it got in the time that was given, with its decoding; None where none was.
    """

    name: str
    task: str
    files: Mapping[str, Path] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    regions: PixelRegions | None = None
    looked: "SeenRegions | None" = None
    reached: "Reached | None" = None


class PlaceResults(ABC):
    """What a model's answers about every place of one image become.

    Args:
        model: with a head of this task.
        options: those of other tasks mean nothing here.
    Raises:
        ConfigError: the model's answers do not fit into such files.
    """

    unit: ClassVar[str]
    """What is counted, in the plural."""
    endings: ClassVar[Mapping[str, str]]
    """How a file's name ends, by what is in it."""
    least_score: ClassVar[float | None] = None
    """Of what is written where nobody says otherwise; None of answers without scores."""
    background: ClassVar[int | None] = None
    """The number of the class that lies between what is looked for; None where all classes are looked for."""

    def __init__(self, model: "XT", options: DenseOptions) -> None:
        self.model = model
        self.chosen = options
        self.class_names = class_names(model)
        self.region_size: int = model.region_encoder.region_size

    @property
    def chosen_least_score(self) -> float:
        given = self.chosen.least_score
        return (self.least_score or 0.0) if given is None else given

    @property
    @abstractmethod
    def choice(self) -> Any:
        """A JSON value that differs wherever what is stored of a region would have another form."""

    def bytes_of_regions(self, scales: NDArray[np.int64]) -> int:
        """That regions of these scales take in the store; 0 where that is little, and not known before."""
        return 0

    @abstractmethod
    def stored(
        self, predictions: Any, regions: Sequence[Region], image: "LargeImage"
    ) -> NDArray[np.uint8] | Rows:
        """What is kept of a region batch.

        Args:
            predictions: see `xt.model.dense.DecodedRegions`.
            image: as the model reads it.
        """

    @abstractmethod
    def write(
        self,
        store: RegionStore,
        grid: PixelRegions,
        read: "AsRead",
        destination: Path,
        tags: Mapping[str, str],
        progress: Callable[[float], object] | None = None,
    ) -> DenseResult:
        """From the store, which holds every region of the grid, to the files.

        Args:
            grid: of the regions that were decoded, which lie beside each other.
            read: the image that was decoded, and its file, in whose pixels all is written.
            destination: the files' common beginning.
            tags: of files that can hold some.
            progress: called with the fraction done, 0 to 1.
        Raises:
            OutputError: a file could not be written; those before it are whole.
        """

    @classmethod
    @abstractmethod
    def draw(cls, result: DenseResult, image: "LargeImage", destination: Path, title: str) -> None:
        """Write a picture of a result for a quick look.

        Raises:
            OutputError: it could not be written; nothing half-written stays.
        """

    @classmethod
    @abstractmethod
    def shown(
        cls, files: Mapping[str, Path], image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        """What was written, as layers on the image.

        Args:
            files: those that are there, by keys of `endings`.
            image: as it is on disk.
            class_names: of the model.
        Raises:
            XTError: a file is not as it was written.
        """

    @abstractmethod
    def shown_so_far(
        self, stored: Sequence[NDArray[Any]], regions: Sequence[Region], read: "AsRead"
    ) -> "list[Shown]":
        """What would be written if there were no other regions, as layers in pixels of the image's file.

        Args:
            stored: of region batches, as `stored` gave it.
            regions: of all of them, in order.
        """

    def further(self, destination: Path, what: str) -> dict[str, Path]:
        """The files of points, boxes or outlines in the other forms that are wanted."""
        wanted = [f"{what}_{form}" for form in SUFFIXES if form in self.chosen.also]
        return {name: self.file(destination, name) for name in wanted}

    @classmethod
    def file(cls, destination: Path, what: str) -> Path:
        """The file of this kind; a dot in the destination's name does not begin a suffix."""
        return destination.with_name(destination.name + cls.endings[what])

    @classmethod
    def remove_leftovers(cls, destination: Path) -> None:
        """Remove what a killed process left while it wrote these files."""
        for what in cls.endings:
            remove_leftovers_of(cls.file(destination, what))

    def result(
        self, image: "LargeImage", files: Mapping[str, Path], counts: NDArray[np.integer], left_out: int = 0
    ) -> DenseResult:
        """With these files; `counts` of each class in order."""
        by_name = {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}
        return DenseResult(
            name=image.name, task=self.model.head.task, files=files, counts=by_name, left_out=left_out
        )


def in_every_form(what: str) -> dict[str, str]:
    """Of points, boxes or outlines the endings of their files in all forms, for `PlaceResults.endings`."""
    return {
        what: f".{what}.geojson",
        **{f"{what}_{form}": f".{what}{suffix}" for form, suffix in SUFFIXES.items()},
    }


def stored_columns(
    store: RegionStore, columns: Sequence[str], least_score: float
) -> tuple[dict[str, Rows], int]:
    """The rows of a store to which arrays (rows, columns) were appended, by column, without those of a lower score;
    and how many these are."""
    batches = [
        store.batch(number, np.float64).reshape(-1, len(columns)) for number in range(store.num_batches)
    ]
    return good_columns(batches, columns, least_score)


def good_columns(
    batches: Sequence[Rows], columns: Sequence[str], least_score: float
) -> tuple[dict[str, Rows], int]:
    """Likewise, of arrays (rows, columns)."""
    rows = np.concatenate(batches) if batches else np.empty((0, len(columns)))
    # Before anything is merged: a row is dropped only for one of a higher score, so this changes nothing above it.
    good = rows[:, list(columns).index("score")] >= least_score
    kept = rows[good]
    return {name: kept[:, number] for number, name in enumerate(columns)}, len(rows) - len(kept)
