"""Boxes as MS-COCO keeps them: one JSON file of images, categories and annotations; read, and written.

    {"images": [{"id": 7, "file_name": "a.tif", "height": 10000, "width": 12000}],
     "categories": [{"id": 3, "name": "cell"}],
     "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [x, y, width, height], "area": 1200.0,
                      "iscrowd": 0}]}

Images may be of any size and format. A file's boxes are x, y, width, height, its categories have whatever numbers it
likes; a `BoxTable` has half-open edges, y first, and classes 0 to K - 1. The two meet here only. Of an annotation's
outlines (polygons, run lengths) nothing is read: its box counts. Source: https://cocodataset.org/#format-data.
"""

import difflib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.data.table import ImageTable, image_path
from xt.data.targets import BoxTarget, Target
from xt.errors import ConfigError, TableError
from xt.heads.box_table import BoxTable
from xt.output import atomic_path, write_atomically

# Of several files.
_SPLITS = ("train", "val", "test")


class CocoImage(NamedTuple):
    """An image that a file lists; its size is None where the file does not say."""

    number: int
    file_name: str
    shape: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Instances:
    """What a file of instances holds.

    Attributes:
        source: the path, for messages.
        images: in the file's order.
        boxes: one table an image; labels are places in `class_names`.
        class_names: in the order of the categories' numbers.
        category_ids: those numbers, (K,), which may have gaps.
    """

    source: str
    images: tuple[CocoImage, ...]
    boxes: tuple[BoxTable, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def named(self, class_names: Sequence[str]) -> "Instances":
        """The same with labels that are places in these names.

        Raises:
            TableError: a category of some box is not among them.
        """
        names = tuple(class_names)
        if names == self.class_names:
            return self
        place = {name: number for number, name in enumerate(names)}
        used = sorted({int(label) for table in self.boxes for label in np.unique(table.labels)})
        for label in used:
            if (name := self.class_names[label]) not in place:
                near = difflib.get_close_matches(name, names, n=1)
                raise TableError(
                    f"{self.source} has boxes of the category {name!r}; the model knows {', '.join(names[:12])}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
        moved = np.array([place.get(name, -1) for name in self.class_names], dtype=np.int64)
        ids = dict(zip(self.class_names, self.category_ids, strict=True))
        # A class that the file does not know gets a number beyond its own.
        free = itertools.count(max(self.category_ids, default=0) + 1)
        numbers = tuple(ids[name] if name in ids else next(free) for name in names)
        tables = tuple(
            BoxTable.of(
                table.edges, moved[table.labels], scores=table.scores, crowd=table.crowd, areas=table.areas
            )
            for table in self.boxes
        )
        return Instances(self.source, self.images, tables, names, numbers)


def read_instances(path: str | Path) -> Instances:
    """Read a file of instances.

    Annotations with `iscrowd` become the boxes' `crowd`; without an `area` a box's own is taken. Boxes without any area
    stay: measured against, they are missed, as by pycocotools; training leaves them out.

    Raises:
        TableError: there is no such file, it is of another form, a number occurs twice or stands for nothing, or a box
            is no box.
    """
    source = str(path)
    content = _load(Path(path))
    try:
        images = tuple(_image(entry) for entry in content["images"])
        categories = sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"])
        annotations = content.get("annotations", [])
        rows = np.array([_row(entry) for entry in annotations], np.float64).reshape(-1, _COLUMNS)
        # Apart from the rows: as floats, numbers of 64 bits, such as hashes, would be others.
        image_ids, category_ids = (
            [int(entry[name]) for entry in annotations] for name in ("image_id", "category_id")
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise TableError(
            f"{source} is not a file of COCO instances ({what}); expected images (id, file_name), categories (id, "
            "name) and annotations (id, image_id, category_id, bbox)"
        ) from None
    if not images:
        raise TableError(f"{source} lists no images")
    numbers, names = zip(*categories, strict=True) if categories else ((), ())
    _check_different([image.number for image in images], "image id", source)
    _check_different(numbers, "category id", source)
    _check_different(names, "category name", source)
    labels = _places(category_ids, numbers, "category_id", source, rows)
    of_image = _places(image_ids, [image.number for image in images], "image_id", source, rows)
    tables = _tables(rows, labels, of_image, len(images), source)
    return Instances(source, images, tables, names, numbers)


def read_coco_table(
    files: Sequence[str | Path],
    images: Sequence[str | Path] = (),
    *,
    class_names: Sequence[str] | None = None,
) -> ImageTable:
    """The images of one to three files of instances (training, validation, test); the targets are `BoxTarget`s.

    Args:
        images: the folder that file names start from, one for all files or one for each; the file's own without.
        class_names: in the order of the model's outputs; without them the first file's categories by number.
    Raises:
        TableError: a file is none, or has boxes of a class that is not known.
        ConfigError: there are more files than splits, or another number of folders.
    """
    if not 1 <= len(files) <= len(_SPLITS) or len(images) not in (0, 1, len(files)):
        raise ConfigError(
            "data.coco has one to three files (training, validation, test) and data.images no folder, one, or one for "
            f"each file; got {len(files)} files and {len(images)} folders"
        )
    paths: list[Path] = []
    targets: list[Target] = []
    splits: list[str] = []
    names = None if class_names is None else tuple(class_names)
    for number, (file, split) in enumerate(zip(files, _SPLITS, strict=False)):
        instances = read_instances(file)
        names = names or instances.class_names
        instances = instances.named(names)
        folder = Path(images[min(number, len(images) - 1)]) if images else Path(file).parent
        for image, boxes in zip(instances.images, instances.boxes, strict=True):
            paths.append(image_path(folder, image.file_name))
            targets.append(BoxTarget(boxes, Path(file), image.shape, image.number, instances.category_ids))
            splits.append(split)
    column = np.empty(len(targets), dtype=object)
    column[:] = targets
    source = ", ".join(str(file) for file in files)
    return ImageTable(source, tuple(paths), column, names or (), tuple(splits) if len(files) > 1 else None)


def write_instances(
    path: str | Path,
    images: Sequence[CocoImage],
    boxes: Sequence[BoxTable],
    class_names: Sequence[str],
    category_ids: Sequence[int] | None = None,
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


def result_rows(image_id: int, boxes: BoxTable, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Found boxes of an image in COCO's form of results, which pycocotools' `loadRes` reads.

    Args:
        category_ids: of the classes, in their order.
    """
    return [
        {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": bbox, "score": float(score)}
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


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such file of COCO instances") from None
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is not a readable JSON file ({error})") from None


def _image(entry: Mapping[str, Any]) -> CocoImage:
    shape = None
    if entry.get("height") and entry.get("width"):
        shape = int(entry["height"]), int(entry["width"])
    return CocoImage(int(entry["id"]), str(entry["file_name"]), shape)


_COLUMNS = 7


def _row(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """y0, x0, y1, x1, area, iscrowd, id."""
    x, y, width, height = entry["bbox"]
    area = entry.get("area")
    area = width * height if area is None else area
    return y, x, y + height, x + width, area, bool(entry.get("iscrowd", 0)), entry.get("id", -1)


def _check_different(values: Sequence[Any], what: str, source: str) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise TableError(f"{source}: the {what} {value!r} occurs twice")
        seen.add(value)


def _places(
    values: Sequence[int], known: Sequence[int], what: str, source: str, rows: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Where in `known` each value is."""
    place = {number: index for index, number in enumerate(known)}
    found = np.array([place.get(value, -1) for value in values], dtype=np.int64)
    if (found < 0).any():
        row = int(np.flatnonzero(found < 0)[0])
        raise TableError(
            f"{source}: the annotation {int(rows[row, -1])} has the {what} {values[row]}, which the file "
            "does not list"
        )
    return found


def _tables(
    rows: NDArray[np.float64],
    labels: NDArray[np.int64],
    of_image: NDArray[np.int64],
    count: int,
    source: str,
) -> tuple[BoxTable, ...]:
    edges = rows[:, :4]
    wrong = ~np.isfinite(rows).all(axis=1) | (edges[:, 2:] < edges[:, :2]).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        y0, x0, y1, x1 = edges[row]
        raise TableError(
            f"{source}: the box of the annotation {int(rows[row, -1])} is x={x0:g}, y={y0:g}, width={x1 - x0:g}, "
            f"height={y1 - y0:g}; expected finite numbers, none of the sides negative; mend it or take it out"
        )
    everything = BoxTable.of(edges, labels, crowd=rows[:, 5], areas=rows[:, 4])
    order = np.argsort(of_image, kind="stable")
    borders = np.searchsorted(of_image[order], np.arange(count + 1))
    return tuple(everything.select(order[borders[n] : borders[n + 1]]) for n in range(count))
