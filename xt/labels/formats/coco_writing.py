"""Boxes written as MS-COCO keeps them: files of instances, see `xt.labels.formats.coco`, and of results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xt.labels.box_table import BoxTable
from xt.labels.formats.coco_entries import CocoImage, Identity
from xt.output import atomic_path, write_atomically


def write_instances(
    path: str | Path,
    images: Sequence[CocoImage],
    boxes: Sequence[BoxTable],
    class_names: Sequence[str],
    category_ids: Sequence[Identity] | None = None,
) -> None:
    """Write a file of instances, atomically, which `read_instances` gives back.

    Args:
        boxes: one table an image.
        category_ids: of the classes; 1, 2, 3 ... without.
    """
    ids = list(category_ids or range(1, len(class_names) + 1))
    entries: list[dict[str, Any]] = []
    for image in images:
        entry: dict[str, Any] = {"id": image.number, "file_name": image.file_name}
        if image.shape is not None:
            entry |= {"height": image.shape[0], "width": image.shape[1]}
        entries.append(entry)
    annotations: list[dict[str, Any]] = []
    for image, table in zip(images, boxes, strict=True):
        rows = zip(coco_boxes(table), table.labels, table.areas, table.crowd, strict=True)
        for bbox, label, area, crowd in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image.number, "category_id": ids[label], "bbox": bbox,
                    "area": float(area), "iscrowd": int(crowd), "segmentation": [],
                }
            )  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in zip(ids, class_names, strict=True)]
    content = {"images": entries, "categories": categories, "annotations": annotations}
    write_atomically(path, json.dumps(content) + "\n")


def result_rows(
    image_id: Identity, boxes: BoxTable, category_ids: Sequence[Identity]
) -> list[dict[str, Any]]:
    """Found boxes of an image in COCO's form of results, which pycocotools' `loadRes` reads.

    Args:
        category_ids: of the classes, in their order.
    """
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": bbox, "score": float(score)}
        for bbox, label, score in zip(coco_boxes(boxes), boxes.labels, boxes.scores, strict=True)
    ]


def write_results(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of results, atomically; the rows are taken one after the other and not held.

    Args:
        rows: see `result_rows`.
    """
    separator = "[\n"
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(separator + json.dumps(row))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def coco_boxes(boxes: BoxTable) -> list[list[float]]:
    """x, y, width, height of each."""
    values: list[list[float]] = np.stack([boxes.x0, boxes.y0, boxes.widths, boxes.heights], axis=1).tolist()
    return values
