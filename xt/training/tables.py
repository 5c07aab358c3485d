"""The table that a configuration names, in its three parts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xt.config.run import DataConfig
from xt.data.augmentation import Augmentation
from xt.data.class_folders import read_folder
from xt.data.dense_table import (
    DENSE_TASKS,
    read_box_table,
    read_mask_table,
    read_point_table,
    read_scene_table,
)
from xt.data.feature_store import FeatureStore
from xt.data.inaturalist import read_inaturalist
from xt.data.splits import Splits, divide, warn_of_doubles
from xt.data.table_files import read_microns, read_table
from xt.errors import ConfigError
from xt.heads import DENSE_HEADS, HEADS
from xt.labels.formats.coco import read_coco_table
from xt.labels.image_table import ImageTable
from xt.model.config import ModelConfig
from xt.registry import nearest

_HEADS = (*HEADS, *DENSE_HEADS)


def load_table(
    data: DataConfig,
    task: str,
    class_names: tuple[str, ...] | None = None,
    model: ModelConfig | None = None,
    rows: Sequence[int] | None = None,
) -> ImageTable:
    """The table or folder that the configuration names.

    Args:
        class_names: of a model that is there already; they come before the configuration's.
        model: that the table is for, which masks and points need.
        rows: of `data.table`, these alone; see `read_table`.
    """
    table = _load_table(data, task, class_names, model, rows)
    if data.table is None:
        return table
    return replace(table, microns_per_pixel=read_microns(data.table, data.microns_column, rows))


def _load_table(
    data: DataConfig,
    task: str,
    class_names: tuple[str, ...] | None,
    model: ModelConfig | None,
    rows: Sequence[int] | None,
) -> ImageTable:
    names = class_names or data.class_names
    if task not in _HEADS:
        raise ConfigError(
            f"unknown model.head {task!r}{nearest(task, _HEADS)}; there are {', '.join(_HEADS)}"
        )
    if task in DENSE_TASKS:
        return _load_dense_table(data, task, names, model or ModelConfig(encoder="", head=task), rows)
    _check_answers_only(data, task)
    if data.inaturalist is not None:
        return _load_inaturalist(data, data.inaturalist, task, names)
    if data.folder is not None:
        if task != "classification":
            raise ConfigError(
                f"data.folder gives one class per image, model.head is {task!r}; use data.table"
            )
        return read_folder(
            data.folder,
            class_names=names,
            split_names=(data.train_split, data.validation_split, data.test_split),
        )
    if data.table is None:
        raise ConfigError(
            "neither data.table nor data.folder was given; one of them says where the images are"
        )
    return read_table(
        data.table,
        task=task,
        image_column=data.image_column,
        label_columns=data.label_columns,
        label_separator=data.label_separator,
        class_names=names,
        split_column=data.split_column,
        root=data.root,
        rows=rows,
    )


def _load_inaturalist(data: DataConfig, folder: str, task: str, names: tuple[str, ...] | None) -> ImageTable:
    if task != "classification":
        raise ConfigError(
            f"data.inaturalist gives one class per image, but model.head is {task!r}; set it to 'classification'"
        )
    return read_inaturalist(
        folder,
        classes=data.inaturalist_classes,
        class_names=names,
        train_split=data.train_split,
        validation_split=data.validation_split,
    )


def _load_dense_table(
    data: DataConfig,
    task: str,
    names: tuple[str, ...] | None,
    model: ModelConfig,
    rows: Sequence[int] | None,
) -> ImageTable:
    if data.folder is not None or data.tokens is not None or data.view != "whole":
        raise ConfigError(
            f"model.head {task!r} takes whole images with their pixels from data.table (or data.scenes, data.coco): "
            "leave out data.folder, data.tokens and data.view"
        )
    if data.coco and task != "detection":
        raise ConfigError(
            f"data.coco has boxes, but model.head is {task!r}; set it to 'detection', or give masks and points by "
            "data.table"
        )
    if data.coco:
        return read_coco_table(data.coco, data.images, class_names=names)
    if task == "detection" and data.table is None:
        raise ConfigError(
            "no data.coco and no data.table was given; one of them says where the boxes are, and `xt convert-labels` "
            "makes COCO's files"
        )
    if data.scenes is not None and task != "points":
        raise ConfigError(
            f"data.scenes are labelled with points, but model.head is {task!r}; set it to 'points'"
        )
    if data.scenes is not None:
        return read_scene_table(
            data.scenes,
            data.scene_labels,
            channels=data.scene_channels,
            confidences=data.scene_confidences,
            class_names=names,
        )
    if data.table is None:
        raise ConfigError("no data.table was given; it says where the images and their labels are")
    columns: dict[str, Any] = {
        "image_column": data.image_column,
        "split_column": data.split_column,
        "root": data.root,
        "rows": rows,
        "layer": data.layer,
        "class_column": None
        if data.label_columns == _default_data("label_columns")
        else data.label_columns[0],
    }
    if task == "segmentation":
        return read_mask_table(
            data.table,
            class_names=names or model.class_names,
            num_classes=model.num_classes,
            mask_column=data.mask_column,
            values=data.mask_values,
            nodata=data.mask_nodata,
            unlabelled=data.unlabelled,
            order=data.polygon_order,
            **columns,
        )
    if task == "detection":
        return read_box_table(data.table, class_names=names, boxes_column=data.boxes_column, **columns)
    return read_point_table(
        data.table,
        class_names=names,
        attributes=model.head_options.get("attributes"),
        points_column=data.points_column,
        **columns,
    )


def _check_answers_only(data: DataConfig, task: str) -> None:
    """Refuse settings that only masks and points have."""
    given = [f"data.augmentation.{name}" for name in ("label_centred", "windows") if _is_set(data, name)]
    given += ["data.scenes"] if data.scenes is not None else []
    given += ["data.coco"] if data.coco else []
    if given:
        raise ConfigError(
            f"{given[0]} is for the heads {', '.join(DENSE_TASKS)}, but model.head is {task!r}; leave it out"
        )


def _is_set(data: DataConfig, name: str) -> bool:
    return bool(getattr(data.augmentation, name) != getattr(Augmentation(), name))


def load_splits(
    data: DataConfig,
    task: str,
    class_names: tuple[str, ...] | None = None,
    model: ModelConfig | None = None,
) -> Splits:
    """The table's three parts, all their files being there; arguments as of `load_table`."""
    splits = divided(load_table(data, task, class_names, model), data)
    warn_of_doubles(splits)
    store = None if data.tokens is None else FeatureStore(data.tokens)
    for part in (splits.train, splits.validation, splits.test):
        if part is not None and store is None:
            part.check_files()
        elif part is not None and store is not None:
            store.check_images(part.paths, part.source)
    return splits


def divided(table: ImageTable, data: DataConfig) -> Splits:
    """The table's three parts as the configuration has them."""
    return divide(
        table,
        train_split=data.train_split,
        validation_split=data.validation_split,
        test_split=data.test_split,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        seed=data.split_seed,
    )


def _default_data(name: str) -> object:
    return DataConfig.__dataclass_fields__[name].default
