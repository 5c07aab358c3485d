"""Boxes as MS-COCO keeps them: one JSON file of images, categories and annotations.

    {"images": [{"id": 7, "file_name": "a.tif", "height": 10000, "width": 12000}],
     "categories": [{"id": 3, "name": "cell"}],
     "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [x, y, width, height], "area": 1200.0,
                      "iscrowd": 0}]}

Images may be of any size and format. A file's boxes are x, y, width, height, its categories have whatever numbers it
likes; a `BoxTable` has half-open edges, y first, and classes 0 to K - 1. The two meet here only. Of an annotation's
outlines (polygons, run lengths) nothing is read: its box counts. Source: https://cocodataset.org/#format-data.
"""

import itertools
import posixpath
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, DataWarning, TableError
from xt.labels.box_table import BoxTable
from xt.labels.formats.coco_entries import (
    Annotation,
    CocoImage,
    Identity,
    identity,
    read_annotation,
    read_category,
    read_image,
)  # fmt: skip
from xt.labels.formats.columns import class_name
from xt.labels.formats.text_files import read_json
from xt.labels.image_table import ImageTable, image_path
from xt.labels.targets import BoxTarget, Target
from xt.registry import nearest

# Of several files.
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Instances:
    """What a file of instances holds.

    Attributes:
        source: the path, for messages.
        images: in the file's order.
        boxes: one table an image; labels are places in `class_names`.
        class_names: in the order of the categories' numbers.
        category_ids: those numbers (or texts, where the file has such), (K,), which may have gaps.
    """

    source: str
    images: tuple[CocoImage, ...]
    boxes: tuple[BoxTable, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[Identity, ...]

    def named(self, class_names: Sequence[str]) -> "Instances":
        """The same with labels that are places in these names.

        Raises:
            TableError: a category of some box is not among them.
        """
        names = tuple(class_name(name) for name in class_names)
        if names == self.class_names:
            return self
        place = {name: number for number, name in enumerate(names)}
        used = sorted({int(label) for table in self.boxes for label in np.unique(table.labels)})
        for label in used:
            if (name := self.class_names[label]) not in place:
                raise TableError(
                    f"{self.source} has boxes of the category {name!r}{nearest(name, names)}; the model knows "
                    f"{', '.join(names[:12])}"
                )
        moved = np.array([place.get(name, -1) for name in self.class_names], dtype=np.int64)
        ids = dict(zip(self.class_names, self.category_ids, strict=True))
        # A class that the file does not know gets a number beyond its own.
        free = itertools.count(max((n for n in self.category_ids if isinstance(n, int)), default=0) + 1)
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
    stay: measured against, they are missed, as by pycocotools; training leaves them out. Images that the file lists
    twice are one with all their boxes, objects of images that it does not list are left out: both with a `DataWarning`.

    Raises:
        TableError: there is no such file, it is of another form, a number occurs twice or stands for nothing, or a box
            is no box.
    """
    source = str(path)
    content = read_json(path, "file of COCO instances")
    try:
        listed = [read_image(entry) for entry in _entries(content, "images")]
        found = [
            read_annotation(entry, place) for place, entry in enumerate(_entries(content, "annotations"))
        ]
        categories = [read_category(entry) for entry in _entries(content, "categories")]
        images, place_of = _images_once(listed, source)
        categories = categories or _numbered(found, source)
    except TableError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise TableError(
            f"{source} is not a file of COCO instances ({error}); expected images (id, file_name), categories (id, "
            "name) and annotations (id, image_id, category_id, bbox)"
        ) from None
    if not images:
        raise TableError(f"{source} lists no images")
    categories.sort(key=lambda category: (isinstance(identity(category[0]), str), identity(category[0])))
    keys = [identity(number) for number, _ in categories]
    names = tuple(name for _, name in categories)
    _check_different(keys, "category id", source)
    _check_different(names, "category name", source)
    found = _of_known_images(found, place_of, source)
    labels = _labels(found, keys, source)
    tables = _tables(found, labels, [place_of[entry.image] for entry in found], len(images))
    return Instances(source, images, tables, names, tuple(number for number, _ in categories))


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


def _entries(content: Any, name: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__} where sections belong")
    entries = content.get(name)
    if entries is None and name == "images":
        raise ValueError("no 'images'")
    entries = [] if entries is None else entries
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{name!r} is no list of objects")
    return entries


def _images_once(
    listed: Sequence[CocoImage], source: str
) -> tuple[tuple[CocoImage, ...], dict[Identity, int]]:
    """The images, each once however often its file is listed, and the place of each number among them."""
    images: list[CocoImage] = []
    place_of: dict[Identity, int] = {}
    place_of_file: dict[str, int] = {}
    again: list[CocoImage] = []
    for image in listed:
        # As Windows parts folders, or with a dot before them, it is the same file.
        file = posixpath.normpath(image.file_name.replace("\\", "/"))
        place = place_of_file.setdefault(file, len(images))
        if place_of.setdefault(identity(image.number), place) != place:
            raise TableError(f"{source}: the image id {image.number!r} occurs twice")
        if place == len(images):
            images.append(image)
            continue
        again.append(image)
        first = images[place]
        if None not in (first.shape, image.shape) and first.shape != image.shape:
            raise TableError(
                f"{source} lists {file} twice (ids {first.number} and {image.number}), with two sizes, {first.shape} "
                f"and {image.shape} (height, width): take the wrong one out"
            )
        images[place] = first._replace(shape=first.shape or image.shape)
    if again:
        first = images[place_of[identity(again[0].number)]]
        warnings.warn(
            f"{source} lists {len(again)} image{'s' if len(again) > 1 else ''} more than once, such as "
            f"{first.file_name} (ids {first.number} and {again[0].number}): their boxes are put together",
            DataWarning,
            stacklevel=3,
        )
    return tuple(images), place_of


def _numbered(found: Sequence[Annotation], source: str) -> list[tuple[Identity, str]]:
    """Categories for a file that lists none, called by their numbers."""
    if not found:
        return []
    numbers = dict.fromkeys(entry.category for entry in found)
    categories = [(number, class_name(number)) for number in numbers]
    names = ", ".join(name for _, name in categories[:12])
    warnings.warn(
        f"{source} lists no categories: its classes are called by their numbers, {names}",
        DataWarning,
        stacklevel=3,
    )
    return categories


def _of_known_images(
    found: Sequence[Annotation], place_of: Mapping[Identity, int], source: str
) -> list[Annotation]:
    """The objects of images that are listed, each once where copies of an image have equal ones."""
    known = [entry for entry in found if entry.image in place_of]
    if len(known) < len(found):
        lost = next(entry for entry in found if entry.image not in place_of)
        sentence = (
            f"{source}: the {lost.name} has the image_id {lost.image!r}, which the file does not list"
            f" ({len(found) - len(known)} of {len(found)} annotations are of such images"
        )
        if not known:
            raise TableError(f"{sentence})")
        warnings.warn(f"{sentence} and are left out)", DataWarning, stacklevel=3)
    if len(set(place_of.values())) == len(place_of):
        return known
    first: dict[Any, Identity] = {}
    for entry in known:
        first.setdefault((place_of[entry.image], entry.category, entry.box), entry.image)
    return [
        entry for entry in known if first[place_of[entry.image], entry.category, entry.box] == entry.image
    ]


def _check_different(values: Sequence[Any], what: str, source: str) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise TableError(f"{source}: the {what} {value!r} occurs twice")
        seen.add(value)


def _labels(found: Sequence[Annotation], known: Sequence[Identity], source: str) -> NDArray[np.int64]:
    """Where in `known` each object's category is."""
    place = {number: index for index, number in enumerate(known)}
    for entry in found:
        if entry.category not in place:
            raise TableError(
                f"{source}: the {entry.name} has the category_id {entry.category!r}, which the file does not list"
            )
    return np.array([place[entry.category] for entry in found], dtype=np.int64)


def _tables(
    found: Sequence[Annotation], labels: NDArray[np.int64], of_image: Sequence[int], count: int
) -> tuple[BoxTable, ...]:
    edges = np.array([entry.box for entry in found], np.float64).reshape(-1, 4)
    areas, crowd = [entry.area for entry in found], [entry.crowd for entry in found]
    everything = BoxTable.of(edges, labels, crowd=np.array(crowd, bool), areas=np.array(areas, np.float64))
    order = np.argsort(np.array(of_image, np.int64), kind="stable")
    borders = np.searchsorted(np.array(of_image, np.int64)[order], np.arange(count + 1))
    return tuple(everything.select(order[borders[n] : borders[n + 1]]) for n in range(count))
