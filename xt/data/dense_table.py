"""Tables of images with a mask or points beside each, and folders of xView3's scenes.

image,mask,split             image,points,split
a.tif,a_mask.tif,train       a.tif,a.csv,train
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from xt.data.point_files import ONLY_CLASS, PointFile, read_points
from xt.data.table import ImageTable, names_of_labels
from xt.data.table_files import read_paths
from xt.data.targets import KnownPoints, MaskTarget, PointTarget, Target
from xt.data.xview3 import find_scenes, read_labels, scene_image
from xt.errors import ConfigError, TableError
from xt.heads.point_table import PointTable

DENSE_TASKS = ("segmentation", "points", "detection")
# Of several files of labels.
_SPLITS = ("train", "val", "test")


def read_mask_table(
    path: str | Path,
    *,
    class_names: Sequence[str],
    image_column: str = "image",
    mask_column: str = "mask",
    split_column: str = "split",
    root: str | Path | None = None,
    values: Sequence[int] | None = None,
    nodata: float | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a table with a mask beside each image; its targets are `MaskTarget`s.

    Args:
        class_names: in the order of the class numbers.
        values, nodata: of the masks, see `MaskTarget`.
        rows: see `read_table`.
    Raises:
        TableError: the table, a column or a file is missing.
        ConfigError: there are more or fewer values than classes.
    """
    if values is not None and len(values) != len(class_names):
        raise ConfigError(
            f"data.mask_values has {len(values)} values for {len(class_names)} classes ({', '.join(class_names)})"
        )
    paths, masks, splits = read_paths(path, image_column, mask_column, split_column, root, rows)
    targets = [MaskTarget(mask, values, nodata, class_names) for mask in masks]
    return ImageTable(
        str(path), paths, as_targets(targets), tuple(class_names), splits, tuple(rows or range(len(paths)))
    )


def read_point_table(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, str] | None = None,
    class_column: str | None = None,
    image_column: str = "image",
    points_column: str = "points",
    split_column: str = "split",
    root: str | Path | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """Read a table with a file of points beside each image; its targets are `PointTarget`s.

    Args:
        class_names: in the order of the model's outputs; without it those in the files, sorted.
        attributes, class_column: see `read_points`.
        rows: see `read_table`.
    Raises:
        TableError: the table, a column or a file is missing, or a file is no file of points.
    """
    paths, files, splits = read_paths(path, image_column, points_column, split_column, root, rows)
    # One file may serve several images.
    read: dict[Path, PointFile] = {}
    for file in dict.fromkeys(files):
        read[file] = read_points(file, class_column=class_column, attributes=attributes)
    found = {name for points in read.values() for name in points.classes if name}
    names = names_of_labels(found or {ONLY_CLASS}, class_names)
    targets = [PointTarget(read[file], names) for file in files]
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
