"""What is written once for all images of a folder: xView3's prediction file, COCO's file of detections."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from xt.errors import ConfigError
from xt.prediction.given import RADAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xt.labels.formats.coco import Instances
    from xt.prediction.results import ResultFolder

# A scene's points in the challenge's own form.
SCENES = "xview3.csv"
# Vectors of all images.
EMBEDDINGS = "embeddings.parquet"
ANNOTATED = "embeddings.h5ad"
# Boxes of all images in COCO's form of results, and the images that their numbers mean.
DETECTIONS = "detections.json"
DETECTIONS_IMAGES = "detections.images.json"

_BOXES_AT_ONCE = 10_000


def write_embeddings(results: "ResultFolder", also: Collection[str] = ()) -> None:
    """The vectors of all images in the folder in one Parquet table, if there are any.

    Args:
        also: with "anndata" in an AnnData file, too, with what predictions.csv has of each image.
    """
    found = {row["image"]: results.folder / row["embedding"] for row in results.rows if row.get("embedding")}
    found = {image: path for image, path in found.items() if path.exists()}
    if not found:
        return
    from xt.results.embeddings import read_vector, write_vectors

    vectors = [read_vector(path) for path in found.values()]
    write_vectors(results.folder / EMBEDDINGS, list(found), vectors)
    if "anndata" not in also:
        return
    import numpy as np

    from xt.results.annotated import write_annotated

    rows = [row for row in results.rows if row["image"] in found]
    columns = dict.fromkeys(name for row in rows for name in row if name != "image")
    known = {name: _as_column([row.get(name, "") for row in rows]) for name in columns}
    write_annotated(results.folder / ANNOTATED, np.stack(vectors), list(found), known)


def _as_column(values: Sequence[Any]) -> "NDArray[Any]":
    """Numbers if all are, NaN where there is none; else texts."""
    import numpy as np

    try:
        return np.array([float(value) if value != "" else np.nan for value in values])
    except ValueError:
        return np.array([str(value) for value in values], dtype=object)


def write_scenes(results: "ResultFolder") -> None:
    """The points of all xView3 scenes in the folder in one file in the challenge's form, if there are any."""
    tables = {
        _scene_id(path): results.path(path, ".points.csv") for path in results.images if _scene_id(path)
    }
    tables = {scene: table for scene, table in sorted(tables.items()) if table.exists()}
    if not tables:
        return
    from xt.data.xview3 import ATTRIBUTES, write_predictions
    from xt.labels.point_table import PointTable
    from xt.results.dense_writers import read_columns

    points = {}
    for scene, table in tables.items():
        columns = read_columns(table)
        points[scene] = PointTable(
            y=columns["y"],
            x=columns["x"],
            scores=columns["score"],
            attributes={name: columns[name] for name in ATTRIBUTES if name in columns},
        )
    # Every point that the model wrote; it has its own threshold.
    write_predictions(results.folder / SCENES, points, threshold=0.0)


def _scene_id(path: str) -> str:
    """The name of an xView3 scene's folder; "" for any other image."""
    first = Path(path.split("|")[0])
    return first.resolve().parent.name if first.name in RADAR else ""


def write_detections(results: "ResultFolder", instances: "Instances | None") -> None:
    """The boxes of all images in the folder as one file in COCO's form of results, if there are any.

    Without a file of instances the images are numbered in the order of predictions.csv and the classes in the model's,
    both from 1, and `detections.images.json` says so: a file of instances without annotations.

    Raises:
        ConfigError: the file of instances lacks an image or a class.
        OutputError: a file could not be written; nothing half-written stays.
    """
    rows = [row for row in results.rows if results.path(row["image"], ".boxes.csv").exists()]
    if not rows:
        return
    from xt.labels.box_table import BoxTable
    from xt.labels.formats.coco_entries import CocoImage
    from xt.labels.formats.coco_writing import write_instances, write_results

    names = _class_names(rows[0])
    paths = [row["image"] for row in rows]
    image_ids, category_ids = image_numbers(paths, instances), category_numbers(names, instances)
    images_file = results.folder / DETECTIONS_IMAGES
    if instances is None:
        images = [
            CocoImage(number, row["image"], (row["height"], row["width"]))
            for number, row in zip(image_ids, rows, strict=True)
        ]
        write_instances(images_file, images, [BoxTable.empty()] * len(images), names, category_ids)
    else:
        images_file.unlink(missing_ok=True)
    tables = (results.path(path, ".boxes.csv") for path in paths)
    write_results(results.folder / DETECTIONS, _result_rows(tables, image_ids, category_ids))


def _result_rows(
    tables: Iterable[Path], image_ids: Sequence[int | str], category_ids: Sequence[int | str]
) -> Iterator[dict[str, Any]]:
    """Of the boxes in each image's table."""
    from xt.labels.formats.coco_writing import result_rows
    from xt.results.box_writers import read_boxes

    for table, number in zip(tables, image_ids, strict=True):
        boxes = read_boxes(table)
        for start in range(0, len(boxes), _BOXES_AT_ONCE):
            some = boxes.select(range(start, min(start + _BOXES_AT_ONCE, len(boxes))))
            for entry in result_rows(number, some, category_ids):
                # As in the table.
                yield entry | {"bbox": [round(value, 3) for value in entry["bbox"]]}


def image_numbers(paths: Sequence[str], instances: "Instances | None") -> list[int | str]:
    """Of these images in detections.json: those of the file of instances, or 1, 2, 3 ...

    A file's name there may begin with folders; an image is the one whose name is the longest end of its path.

    Raises:
        ConfigError: the file does not have an image, or one of its images stands for two.
    """
    if instances is None:
        return list(range(1, len(paths) + 1))
    known = {
        PurePath(image.file_name.replace("\\", "/")).as_posix(): image.number for image in instances.images
    }
    taken: dict[int | str, str] = {}
    for path in paths:
        parts = Path(os.path.abspath(path)).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        number = next((known[end] for end in ends if end in known), None)
        if number is None:
            raise ConfigError(
                f"{instances.source} does not list {path}, so that its boxes have no image_id in {DETECTIONS}: predict "
                "it into another folder, or leave --instances out"
            )
        if number in taken:
            raise ConfigError(
                f"{instances.source} lists one image for {taken[number]} and {path}: predict them into two folders"
            )
        taken[number] = path
    return list(taken)


def category_numbers(class_names: Sequence[str], instances: "Instances | None") -> list[int | str]:
    """Of the model's classes in detections.json: those of the file of instances, or 1, 2, 3 ...

    Raises:
        ConfigError: the file does not have a class.
    """
    if instances is None:
        return list(range(1, len(class_names) + 1))
    known = dict(zip(instances.class_names, instances.category_ids, strict=True))
    for name in class_names:
        if name not in known:
            raise ConfigError(
                f"{instances.source} has no category {name!r}, which is a class of the model; it has "
                f"{', '.join(list(known)[:12])}"
            )
    return [known[name] for name in class_names]


def _class_names(row: dict[str, object]) -> list[str]:
    """All classes of the model, as the columns of a row of predictions.csv name them."""
    start = "boxes("
    return [column[len(start) : -1] for column in row if column.startswith(start)]
