"""Tables of images with a mask, points or boxes beside each, and folders of xView3's scenes.

image,mask,split             image,mask,split             image,points,split        image,boxes,split
a.tif,a_mask.tif,train       a.svs,a.geojson,train        a.tif,a.csv,train         a.tif,trees.gpkg,train
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from xt.data.table_files import has_column, read_paths, read_words
from xt.data.xview3 import find_scenes, read_labels, scene_image
from xt.errors import ConfigError, TableError
from xt.labels.formats.columns import class_name
from xt.labels.formats.point_files import ONLY_CLASS, PointFile, read_points
from xt.labels.formats.polygon_files import PolygonFiles
from xt.labels.formats.vector_files import is_vector_file
from xt.labels.image_table import ImageTable, names_of_labels
from xt.labels.point_table import PointTable
from xt.labels.polygon_targets import IGNORED, PolygonBoxes, PolygonTarget
from xt.labels.targets import KnownPoints, MaskTarget, PointTarget, Target

ONLY_POLYGON = "polygon"
"""What the class of polygons is called where files name none."""
# Of several files of labels.
_SPLITS = ("train", "val", "test")


def read_mask_table(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int = 2,
    image_column: str = "image",
    mask_column: str = "mask",
    split_column: str = "split",
    root: str | Path | None = None,
    values: Sequence[int] | None = None,
    nodata: float | None = None,
    class_column: str | None = None,
    layer: str | None = None,
    unlabelled: str = IGNORED,
    order: str = "area",
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a table with a mask beside each image, as a raster or as polygons; its targets are `MaskTarget`s and
    `PolygonTarget`s.

    Args:
        class_names: in the order of the class numbers; without them those of the polygons, sorted, what is unlabelled
            first; of rasters alone their numbers.
        num_classes: of rasters without names.
        mask_column: may be called "polygons" instead of "mask".
        values, nodata: of rasters, see `MaskTarget`.
        class_column, layer: of files of polygons, see `read_vector`; a column `layer` says it for a row.
        unlabelled, order: see `PolygonTarget`; a column `unlabelled` says the one for a row.
        rows: see `read_table`.
    Raises:
        TableError: the table, a column or a file is missing, or a file of polygons is none.
        ConfigError: there are more or fewer values than classes, or a setting is for masks of the other kind.
    """
    if mask_column == "mask" and not has_column(path, "mask") and has_column(path, "polygons"):
        mask_column = "polygons"
    paths, masks, splits = read_paths(path, image_column, mask_column, split_column, root, rows)
    drawn = [is_vector_file(mask) for mask in masks]
    _check_settings(drawn, values is not None or nodata is not None, (unlabelled, order) != (IGNORED, "area"))
    files = PolygonFiles(class_column)
    layers = [name or layer for name in read_words(path, "layer", len(paths), rows)]
    open_ground = [
        name or class_name(unlabelled) for name in read_words(path, "unlabelled", len(paths), rows)
    ]
    if class_names is None and any(drawn):
        if not all(drawn):
            raise TableError(
                f"{path}: some of its masks are polygons with names, others rasters of numbers: say by "
                "labels.class_names which number is which class"
            )
        class_names = _names_of_polygons(path, files, masks, layers, open_ground)
    names = tuple(map(str, range(num_classes)) if class_names is None else class_names)
    if values is not None and len(values) != len(names):
        raise ConfigError(
            f"labels.mask_values has {len(values)} values for {len(names)} classes ({', '.join(names)})"
        )
    targets = [
        PolygonTarget(mask, files, names, layer=layers[row], unlabelled=open_ground[row], order=order)
        if drawn[row]
        else MaskTarget(mask, values, nodata, names)
        for row, mask in enumerate(masks)
    ]
    return ImageTable(str(path), paths, as_targets(targets), names, splits, tuple(rows or range(len(paths))))


def _check_settings(drawn: Sequence[bool], of_rasters: bool, of_polygons: bool) -> None:
    """Refuse settings that nothing in the table is there for."""
    if of_rasters and all(drawn):
        raise ConfigError(
            "labels.mask_values and labels.mask_nodata are for masks of pixels, but all masks of the table are "
            "polygons, whose classes have names: leave them out, and order the classes by labels.class_names"
        )
    if of_polygons and not any(drawn):
        raise ConfigError(
            "labels.unlabelled and labels.polygon_order are for masks drawn by polygons, but the table has none: leave "
            "them out"
        )


def _names_of_polygons(
    path: str | Path,
    files: PolygonFiles,
    masks: Sequence[Path],
    layers: Sequence[str | None],
    open_ground: Sequence[str],
) -> tuple[str, ...]:
    """The classes of all polygons, those that QuPath ignores left out; what is unlabelled comes first.

    Raises:
        TableError: there is only one.
    """
    first = tuple(dict.fromkeys(name for name in open_ground if name != IGNORED))
    found: set[str] = set()
    for mask, layer in dict.fromkeys(zip(masks, layers, strict=True)):
        found |= {name for name in files.read(mask, layer).classes if name and not name.endswith("*")}
    names = first + tuple(
        name for name in names_of_labels(found or {ONLY_POLYGON}, None) if name not in first
    )
    if len(names) < 2:
        raise TableError(
            f"{path}: all polygons are of one class, {names[0]!r}, and nothing is known between them: say what lies "
            "there, such as labels.unlabelled: background; or say by labels.label_columns which property holds "
            "the class"
        )
    return names


def read_box_table(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    class_column: str | None = None,
    layer: str | None = None,
    image_column: str = "image",
    boxes_column: str = "boxes",
    split_column: str = "split",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a table with a file of polygons beside each image, whose boxes are wanted; its targets are `PolygonBoxes`.

    Args:
        class_names: in the order of the model's outputs; without it those in the files, sorted.
        class_column, layer: see `read_mask_table`.
        rows: see `read_table`.
    Raises:
        TableError: the table, a column or a file is missing, or a file is no file of polygons.
    """
    paths, boxes, splits = read_paths(path, image_column, boxes_column, split_column, root, rows)
    for file in boxes:
        if not is_vector_file(file):
            raise TableError(
                f"{path}: {file} in column {boxes_column!r} is no file of polygons, such as GeoJSON or GeoPackage; "
                "boxes of COCO's form are given by data.coco"
            )
    layers = [name or layer for name in read_words(path, "layer", len(paths), rows)]
    files = PolygonFiles(class_column)
    found: set[str] = set()
    for file, name in dict.fromkeys(zip(boxes, layers, strict=True)):
        found |= set(files.read(file, name).classes) - {""}
    names = names_of_labels(found or {ONLY_POLYGON}, class_names)
    targets = [PolygonBoxes(file, files, names, row + 1, layer=layers[row]) for row, file in enumerate(boxes)]
    return ImageTable(str(path), paths, as_targets(targets), names, splits, tuple(rows or range(len(paths))))


def read_point_table(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, str] | None = None,
    class_column: str | None = None,
    layer: str | None = None,
    image_column: str = "image",
    points_column: str = "points",
    split_column: str = "split",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a table with a file of points beside each image; its targets are `PointTarget`s.

    Args:
        class_names: in the order of the model's outputs; without it those in the files, sorted.
        attributes, class_column, layer: see `read_points`; a column `layer` says it for a row.
        rows: see `read_table`.
    Raises:
        TableError: the table, a column or a file is missing, or a file is no file of points.
    """
    paths, files, splits = read_paths(path, image_column, points_column, split_column, root, rows)
    # One file may serve several images.
    layers = [name or layer for name in read_words(path, "layer", len(paths), rows)]
    read: dict[tuple[Path, str | None], PointFile] = {}
    for file, name in dict.fromkeys(zip(files, layers, strict=True)):
        read[file, name] = read_points(file, class_column=class_column, attributes=attributes, layer=name)
    found = {name for points in read.values() for name in points.classes if name}
    names = names_of_labels(found or {ONLY_CLASS}, class_names)
    targets = [PointTarget(read[place], names) for place in zip(files, layers, strict=True)]
    return ImageTable(str(path), paths, as_targets(targets), names, splits, tuple(rows or range(len(paths))))


def read_scene_table(
    folder: str | Path,
    labels: Sequence[str | Path],
    *,
    channels: Sequence[str] = ("vh", "vv"),
    confidences: Collection[str] = ("HIGH", "MEDIUM"),
    class_names: Sequence[str] | None = None,
) -> ImageTable:
    """The scenes of xView3-SAR that are both in a folder and in its table of labels; the targets are `KnownPoints`.

    Args:
        labels: the challenge's CSV; two or three of them are those of training, validation and test.
        confidences: of the labels that count.
        class_names: one name; "vessel" by default, though some objects are none.
    Raises:
        TableError: none of the labelled scenes is in the folder, or one is in two tables.
        ConfigError: there are more labels than splits, or more classes than one.
        ImageError: the folder holds no scenes, or one lacks a channel.
    """
    names = tuple(class_names or ("vessel",))
    if not 1 <= len(labels) <= len(_SPLITS) or len(names) != 1:
        raise ConfigError(
            "scenes have one class and one to three tables of labels (training, validation, test), got "
            f"{len(names)} classes and {len(labels)} tables"
        )
    scenes = find_scenes(folder)
    paths: list[Path] = []
    targets: list[Target] = []
    splits: list[str] = []
    seen: set[str] = set()
    for table, split in zip(labels, _SPLITS, strict=False):
        wanted = read_labels(table, confidences=confidences)
        there = [scene for scene in read_labels(table) if scene in scenes]
        if not there:
            raise TableError(
                f"none of the scenes in {table} is in {folder}, which has {', '.join(list(scenes)[:3])}"
            )
        if seen & set(there):
            raise TableError(f"the scene {min(seen & set(there))} is in {table} and in a table before it")
        seen |= set(there)
        for scene in there:
            paths.append(Path(scene_image(scenes[scene], channels)))
            targets.append(
                KnownPoints(
                    wanted.get(scene, PointTable.empty(("is_vessel", "is_fishing", "length"))), str(table)
                )
            )
            splits.append(split)
    divided = tuple(splits) if len(labels) > 1 else None
    return ImageTable(str(folder), tuple(paths), as_targets(targets), names, divided)


def as_targets(targets: Sequence[Target]) -> np.ndarray:
    """(N,) objects, as an `ImageTable` holds them."""
    result = np.empty(len(targets), dtype=object)
    result[:] = targets
    return result
