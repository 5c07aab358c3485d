"""From the decoded regions of an image on disk to the files that are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.output import remove_leftovers_of
from xt.prediction.decoded_image import NOTHING, DecodedImage
from xt.prediction.dense_writers import (
    write_mask,
    write_outlines,
    write_point_table,
    write_points,
    write_probabilities,
)
from xt.prediction.merge_points import merge_points
from xt.prediction.region_store import RegionStore
from xt.regions import RegionGrid

if TYPE_CHECKING:
    from xt.images import LargeImage

# How a file's name ends, by what is in it.
ENDINGS = {
    "mask": ".mask.tif",
    "probabilities": ".probabilities.tif",
    "outlines": ".outlines.geojson",
    "points": ".points.geojson",
    "table": ".points.csv",
}
# NumPy counts 8-bit numbers as 64-bit ones.
_COUNTED_PIXELS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """What to write.

    Attributes:
        probabilities: of a segmentation, as a second GeoTIFF.
        outlines: class numbers of a segmentation whose outlines are wanted as polygons.
        least_area: of an outline, in pixels, at least 1.
        merge_radius: points closer than this, in pixels, are one (the better one); None for what the model's head says.
        restart: begin anew where a partial result lies.
    """

    probabilities: bool = False
    outlines: tuple[int, ...] = ()
    least_area: int = 1
    merge_radius: float | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        if self.least_area < 1:
            raise ConfigError(f"least_area must be at least 1 pixel, got {self.least_area}")


@dataclass(frozen=True, kw_only=True)
class DenseResult:
    """What was predicted for one image.

    Attributes:
        name: the image's.
        task: "segmentation" or "points".
        files: those that were written, by keys of `ENDINGS`.
        counts: of pixels, or of points, by class name.
    """

    name: str
    task: str
    files: Mapping[str, Path] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def write_segmentation_files(
    store: RegionStore,
    grid: RegionGrid,
    image: "LargeImage",
    destination: Path,
    class_names: Sequence[str],
    options: DenseOptions,
    tags: Mapping[str, str],
    progress: Callable[[float], object] | None = None,
) -> DenseResult:
    """A mask, and its probabilities and outlines if wanted.

    Args:
        store: every region of the grid, each one band of class numbers, then the classes' probabilities if wanted.
        destination: the files' common beginning.
        progress: called with the fraction done, 0 to 1.
    Raises:
        OutputError: a file could not be written; those before it are whole.
    """
    num_bands = 1 + len(class_names) if options.probabilities else 1
    mask = DecodedImage(store, grid, image, num_bands=num_bands, bands=range(1))
    files = {"mask": beside(destination, "mask")}
    # Each band takes about as long as another.
    write_mask(mask, files["mask"], class_names, tags, _part(progress, 0, 1 / num_bands))
    if options.probabilities:
        bands = DecodedImage(store, grid, image, num_bands=num_bands, bands=range(1, num_bands))
        files["probabilities"] = beside(destination, "probabilities")
        write_probabilities(
            bands, files["probabilities"], class_names, tags, _part(progress, 1 / num_bands, 1)
        )
    if options.outlines:
        files["outlines"] = beside(destination, "outlines")
        write_outlines(mask, files["outlines"], class_names, options.outlines, options.least_area)
    counts = _count_pixels(mask, len(class_names))
    return DenseResult(
        name=image.name, task="segmentation", files=files, counts=_by_name(class_names, counts)
    )


def write_point_files(
    store: RegionStore,
    columns: Sequence[str],
    image: "LargeImage",
    destination: Path,
    class_names: Sequence[str],
    merge_radius: float,
) -> DenseResult:
    """Points as GeoJSON and as CSV, those found twice made one. Args and errors as of `write_segmentation_files`."""
    batches = [
        store.batch(number, np.float64).reshape(-1, len(columns)) for number in range(store.num_batches)
    ]
    rows = np.concatenate(batches) if batches else np.empty((0, len(columns)))
    points = {name: rows[:, number] for number, name in enumerate(columns)}
    kept = merge_points(points["y"], points["x"], points["score"], merge_radius)
    points = {name: values[kept] for name, values in points.items()}
    files = {what: beside(destination, what) for what in ("points", "table")}
    write_points(points, image, files["points"], class_names)
    write_point_table(points, image, files["table"], class_names)
    counts = np.bincount(points["label"].astype(np.int64), minlength=len(class_names))
    return DenseResult(name=image.name, task="points", files=files, counts=_by_name(class_names, counts))


def remove_leftovers(destination: Path) -> None:
    """Remove what a killed process left while it wrote these files."""
    for what in ENDINGS:
        remove_leftovers_of(beside(destination, what))
    remove_leftovers_of(f"{beside(destination, 'mask')}.aux.xml")


def beside(destination: Path, what: str) -> Path:
    """The file of this kind; a dot in the destination's name does not begin a suffix."""
    return destination.with_name(destination.name + ENDINGS[what])


def _part(
    progress: Callable[[float], object] | None, start: float, stop: float
) -> Callable[[float], object] | None:
    return None if progress is None else lambda done: progress(start + (stop - start) * done)


def _count_pixels(mask: "LargeImage", num_classes: int) -> NDArray[np.int64]:
    """How many pixels each class has."""
    height, width = mask.shape
    counts = np.zeros(NOTHING + 1, dtype=np.int64)
    step = max(1, _COUNTED_PIXELS // width)
    for y in range(0, height, step):
        pixels = mask.read(y, 0, min(step, height - y), width)
        counts += np.bincount(pixels.ravel(), minlength=len(counts))
    return counts[:num_classes]


def _by_name(class_names: Sequence[str], counts: NDArray[Any]) -> dict[str, int]:
    return {name: int(count) for name, count in zip(class_names, counts, strict=True)}
