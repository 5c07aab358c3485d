"""Boxes as files that QGIS, GDAL, QuPath and pycocotools open, and a table to read them from again.

Each is written row by row and appears under its name only when it is whole.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xt.errors import OutputError
from xt.labels.box_table import BoxTable
from xt.output import atomic_path
from xt.results.colours import point_colours
from xt.results.coordinates import place_of
from xt.results.vector_files import features_to

if TYPE_CHECKING:
    from xt.images import LargeImage

_NUMBERS = ("y0", "x0", "y1", "x1", "score", "label")


def write_boxes(
    boxes: BoxTable, image: "LargeImage", destination: str | os.PathLike[str], class_names: Sequence[str]
) -> Path:
    """Write boxes as polygons of four corners, with their scores: GeoJSON, or what the suffix says, see
    `xt.results.vector_files`.

    Args:
        boxes: in pixels of the image.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    colours = point_colours(len(class_names))
    with features_to(destination, place_of(image), class_names, colours) as features:
        features.add_boxes(boxes.edges, boxes.labels, {"score": boxes.scores})
    return Path(destination)


def write_box_table(boxes: BoxTable, destination: str | os.PathLike[str], class_names: Sequence[str]) -> Path:
    """Write boxes as CSV: y0, x0, y1, x1 in pixels to a thousandth, score, label (a class number), class (its name).

    Errors: as of `write_boxes`.
    """
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_NUMBERS, "class"])
        for edges, score, label in zip(boxes.edges, boxes.scores, boxes.labels, strict=True):
            writer.writerow(
                [*(f"{edge:.3f}" for edge in edges), f"{score:.7g}", label, class_names[int(label)]]
            )
    return Path(destination)


def read_boxes(path: str | os.PathLike[str]) -> BoxTable:
    """Boxes that `write_box_table` wrote.

    Raises:
        OutputError: the file is not such a table.
    """
    rows = np.fromiter(_rows(path), dtype=(np.float64, len(_NUMBERS)))
    return BoxTable.of(rows[:, :4], rows[:, 5], scores=rows[:, 4])


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[float, ...]]:
    """y0, x0, y1, x1, score and label of each box."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _NUMBERS if name not in (reader.fieldnames or ())]
        if missing:
            raise OutputError(
                f"{path} is not a table of boxes as xt writes it: it has no column {missing[0]!r}. "
                "Predict its image again, with --overwrite."
            )
        for row in reader:
            yield tuple(float(row[name]) for name in _NUMBERS)
