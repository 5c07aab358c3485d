"""Masks, probabilities, outlines and points as files that QGIS, GDAL, QuPath and OpenSlide open.

Each is written from decoded regions on disk, some rows at a time, and appears under its name only when it is whole.
"""

import csv
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from xt import __version__
from xt.errors import ConfigError
from xt.images.conversion import Notes, tile
from xt.output import atomic_path, write_atomically
from xt.progress import OnShare
from xt.results.colours import class_colours, point_colours
from xt.results.coordinates import place_of
from xt.results.kept_pixels import CERTAIN, NOTHING
from xt.results.outlines import outlines
from xt.results.vector_files import features_to

if TYPE_CHECKING:
    from xt.images import LargeImage


def write_mask(
    mask: "LargeImage",
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    tags: Mapping[str, str],
    progress: OnShare | None = None,
) -> Path:
    """Write class numbers as a cloud-optimised GeoTIFF of 8 bits with a palette; 255 is nodata.

    Its levels hold the most frequent class of the pixels below. Names of the classes go to NAME.tif.aux.xml beside it,
    where GDAL and QGIS look for them, and to the tag XT_CLASSES in the file itself. Without coordinates the same file
    is a tiled pyramid with the slide's resolution, for OpenSlide and QuPath.

    Args:
        mask: one band, 0 to K - 1 and 255.
        tags: put into the file's metadata as they are.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    colours = class_colours(len(class_names))
    palette = {number: (*colour, 255) for number, colour in enumerate(colours)}
    palette[NOTHING] = (255, 255, 255, 0)
    notes = Notes(palette=palette, bands=("class",), tags=_tags(class_names, tags))
    written = tile(mask, destination, progress, notes=notes)
    write_atomically(f"{destination}.aux.xml", _category_names(class_names))
    return written


def write_probabilities(
    probabilities: "LargeImage",
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    tags: Mapping[str, str],
    progress: OnShare | None = None,
) -> Path:
    """Write one band of 8 bits a class: 0 to 254 for a probability of 0 to 1, 255 is nodata.

    Each band has its class's name and the scale 1/254, which QGIS and GDAL apply. Errors as of `write_mask`.
    """
    notes = Notes(bands=tuple(class_names), scale=1 / CERTAIN, tags=_tags(class_names, tags))
    return tile(probabilities, destination, progress, notes=notes)


def write_outlines(
    mask: "LargeImage",
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    labels: Collection[int],
    least_area: int = 1,
    further: Sequence[Path] = (),
) -> int:
    """Write outlines of some classes as GeoJSON, or what the suffix says; see `xt.results.vector_files`. How many there
    are.

    Args:
        mask: one band of class numbers.
        labels: which classes.
        least_area: smaller parts are left out, in pixels.
        further: the same once more, in other forms.
    Raises:
        ConfigError: there is no such class.
        OutputError: as of `write_mask`.
    """
    check_outlined(labels, class_names)
    colours = class_colours(len(class_names))
    place, count = place_of(mask), 0
    with ExitStack() as stack:
        files = [
            stack.enter_context(features_to(path, place, class_names, colours))
            for path in (destination, *further)
        ]
        for outline in outlines(mask, labels, least_area):
            count += 1
            for file in files:
                file.add_outline(outline)
    return count


def check_outlined(labels: Collection[int], class_names: Sequence[str]) -> None:
    """Refuse a class to outline that there is not.

    Raises:
        ConfigError: names it.
    """
    for label in labels:
        if not 0 <= label < len(class_names):
            raise ConfigError(
                f"there is no class {label} to outline: the classes are 0 to {len(class_names) - 1}"
            )


def write_points(
    points: Mapping[str, NDArray[Any]],
    image: "LargeImage",
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
) -> Path:
    """Write points as GeoJSON, or what the suffix says; see `xt.results.vector_files`.

    Args:
        points: columns of N values: "y" and "x" in pixels of the image, "score", "label" (a class number), and whatever
            else is known, NaN where it is not.
    Raises:
        OutputError: as of `write_mask`.
    """
    further = [name for name in points if name not in ("y", "x", "label")]
    with features_to(destination, place_of(image), class_names, point_colours(len(class_names))) as features:
        numbers = {name: points[name] for name in further}
        features.add_points(points["y"], points["x"], points["label"], numbers)
    return Path(destination)


def write_point_table(
    points: Mapping[str, NDArray[Any]],
    image: "LargeImage",
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
) -> Path:
    """Write points as CSV: y and x in pixels, map_y and map_x where the image lies on a map, then what is known.

    Args, errors: as of `write_points`. Map coordinates are in the image's own system (or in degrees where that has no
    name), as in the GeoJSON; what is not known is left empty.
    """
    place = place_of(image)
    on_map = ["map_y", "map_x"] if place.is_map else []
    further = [name for name in points if name not in ("y", "x", "label", "score")]
    coordinates = place.coordinates(points["y"], points["x"])
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["y", "x", *on_map, "score", "label", "class", *further])
        for row in range(len(points["y"])):
            label = int(points["label"][row])
            where = [f"{points[axis][row]:.3f}" for axis in ("y", "x")]
            map_y, map_x = coordinates[row, 1], coordinates[row, 0]
            where += [
                f"{value:.{place.decimals}f}" if np.isfinite(value) else ""
                for value in (map_y, map_x)
                if on_map
            ]
            known = [_number(points[name][row]) for name in further]
            writer.writerow([*where, _number(points["score"][row]), label, class_names[label], *known])
    return Path(destination)


def read_columns(table: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """The numbers in a table that `write_point_table` wrote, by column; NaN where a field is empty."""
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    columns = [name for name in reader.fieldnames or () if name != "class"]
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def _number(value: float) -> str:
    return f"{value:.7g}" if np.isfinite(value) else ""


def _tags(class_names: Sequence[str], tags: Mapping[str, str]) -> dict[str, str]:
    classes = json.dumps(list(class_names), ensure_ascii=False)
    return {"TIFFTAG_SOFTWARE": f"xt {__version__}", "XT_CLASSES": classes, **tags}


def _category_names(class_names: Sequence[str]) -> str:
    """GDAL's side file: TIFF itself has no place for the names of classes."""
    names = "".join(f"<Category>{escape(name)}</Category>" for name in class_names)
    return (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
        "</PAMRasterBand></PAMDataset>\n"
    )
