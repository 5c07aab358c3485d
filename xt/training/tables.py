"""The table that a configuration names, in its three parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from xt.config.run import DataConfig
from xt.data.augmentation import Augmentation
from xt.data.class_folders import read_folder
from xt.data.dense_table import read_scene_table
from xt.data.feature_store import FeatureStore
from xt.data.inaturalist import read_inaturalist
from xt.data.splits import Splits, divide, warn_of_doubles
from xt.data.table_files import read_microns
from xt.errors import ConfigError
from xt.labels.formats.coco import read_coco_table
from xt.labels.image_table import ImageTable
from xt.model.config import ModelConfig
from xt.tasks import TASKS, Task, task_of
from xt.tasks.base import TableRows


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
    head: str,
    class_names: tuple[str, ...] | None,
    model: ModelConfig | None,
    rows: Sequence[int] | None,
) -> ImageTable:
    task = task_of(head)
    _check_meant(data, task, head)
    own = _own_labels(data, class_names or data.class_names)
    if own is not None:
        source, gives, read = own
        if gives != task.takes:
            raise ConfigError(_other_labels(source, gives, head))
        return read()
    if data.table is None:
        raise ConfigError(
            "nothing says where the images are: give data.table, data.folder, or another of data's settings that name "
            "a source"
        )
    table = TableRows(
        path=data.table,
        image_column=data.image_column,
        split_column=data.split_column,
        root=data.root,
        rows=rows,
    )
    return task.read_table(table, data, class_names=class_names, model=model)


def _own_labels(
    data: DataConfig, names: tuple[str, ...] | None
) -> tuple[str, str, Callable[[], ImageTable]] | None:
    """Of a source that brings its own labels: its field, which labels they are, and what reads them."""
    splits = (data.train_split, data.validation_split, data.test_split)
    if (folder := data.inaturalist) is not None:
        return (
            "data.inaturalist",
            "classes",
            lambda: read_inaturalist(
                folder,
                classes=data.inaturalist_classes,
                class_names=names,
                train_split=data.train_split,
                validation_split=data.validation_split,
            ),
        )
    if (folder := data.folder) is not None:
        return "data.folder", "classes", lambda: read_folder(folder, class_names=names, split_names=splits)
    if data.coco:
        return "data.coco", "boxes", lambda: read_coco_table(data.coco, data.images, class_names=names)
    if (scenes := data.scenes) is not None:
        return (
            "data.scenes",
            "points",
            lambda: read_scene_table(
                scenes,
                data.scene_labels,
                channels=data.scene_channels,
                confidences=data.scene_confidences,
                class_names=names,
            ),
        )
    return None


_GIVES = {"classes": "gives one class per image", "boxes": "has boxes", "points": "is labelled with points"}


def _other_labels(source: str, gives: str, head: str) -> str:
    fitting = [name for name, task in TASKS.items() if task.takes == gives]
    return (
        f"{source} {_GIVES[gives]}, but model.head is {head!r}; set it to {' or '.join(map(repr, fitting))}, or give "
        "other labels by data.table"
    )


def _check_meant(data: DataConfig, task: Task, head: str) -> None:
    """Refuse settings of augmentation and views that the task has no use for."""
    given = [f"data.augmentation.{name}" for name in ("label_centred", "windows") if _is_set(data, name)]
    fitting = [name for name, other in TASKS.items() if other.about_places]
    if not task.about_places and given:
        raise ConfigError(
            f"{given[0]} is for the heads {', '.join(fitting)}, but model.head is {head!r}; leave it out"
        )
    if task.about_places and (data.tokens is not None or data.view != "whole"):
        raise ConfigError(
            f"model.head {head!r} takes whole images with their pixels from data.table (or data.scenes, data.coco): "
            "leave out data.folder, data.tokens and data.view"
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
