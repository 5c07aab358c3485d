"""What a table, a folder or a file of boxes is for, where no configuration says so: guessed, and said."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xt.checking.columns import columns_meant
from xt.checking.label_facts import mask_values
from xt.config.files import listed_texts
from xt.config.parser import load_config
from xt.config.run import RunConfig
from xt.data.class_folders import read_folder
from xt.data.table_files import read_columns
from xt.errors import TableError, XTError
from xt.images import open_image
from xt.labels.formats.vector_files import is_vector_file
from xt.labels.image_table import image_path
from xt.prediction.inputs import find_images

# As in the recipes of xt/recipes.
_MODEL = (
    "--model.encoder=convnext_tiny.in12k_ft_in1k",
    "--model.region_size=256",
    "--model.tokens_per_region=16",
)
_DENSE = ("--model.halo=32", "--data.augmentation.train_size=1024", "--data.augmentation.windows=8")
_DETECTION = ("--model.region_size=512", "--model.halo=64", "--data.augmentation.train_size=1024",
              "--data.augmentation.windows=4")  # fmt: skip
_RECIPES = {"segmentation": _DENSE, "points": _DENSE, "detection": _DETECTION}
# Columns that say what a table is for, and the head for them; the first that is there counts.
_COLUMNS = {
    "mask": "segmentation", "polygons": "segmentation", "points": "points", "boxes": "detection",
    "label": "classification",
}  # fmt: skip
_LOOKED_AT = 64
_SEVERAL = 5
_FIRST = 9
_COLOURS = 3
_MOST_CLASSES = 64
_UNKNOWN = 255
# Folders that hold images or their labels, not images of a class.
_NOT_CLASSES = frozenset(
    ["images", "image", "img", "masks", "mask", "labels", "label", "annotations", "points"]
)


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """How a source is taken.

    Attributes:
        config: of a run with it.
        task: None where there are no labels, so that nothing can be trained.
        told: what was assumed, as sentences.
        train: the command line that trains with it; "" without a task.
        classes: whether the classes of masks were guessed from some of them.
    """

    config: RunConfig
    task: str | None
    told: tuple[str, ...]
    train: str
    classes: bool = False


def assume(source: str, overrides: Sequence[str] = ()) -> Assumed:
    """The configuration of a run that takes a table, a folder or a file of COCO instances.

    Args:
        overrides: `--section.key=value`, which count before what is assumed.
    Raises:
        TableError: there is nothing of that name, or it is no table.
        ConfigError: an override is unknown or out of range.
    """
    path = Path(source)
    if path.is_dir():
        task, told, data = _of_folder(path)
        images = find_images([source])
    elif path.suffix.lower() == ".json":
        task, told, data = "detection", ["boxes, as the file is JSON of COCO's kind"], _of_instances(path)
        # Grey images stand among coloured ones there.
        images = []
    else:
        meant = columns_meant(path, overrides)
        task, told, data = _of_table(path, [*meant.settings, *overrides])
        told, data = [*told, *meant.told], [*data, *meant.settings]
        images = _images_of_table(path, [*meant.settings, *overrides])
    head = (f"--model.head={task}",) if task else ()
    typed = [*data, *_of_channels(images), *overrides]
    config = load_config(None, [*_MODEL, *_RECIPES.get(task or "", ()), *head, *typed])
    recipe = task if task in ("segmentation", "points", "detection") else "classification"
    other_head = [f"--model.head={task}"] if task not in (None, recipe) else []
    train = shlex.join(["xt", "train", recipe, *_spaced([*other_head, *typed])])
    return Assumed(
        config=config,
        task=task,
        told=tuple(told),
        train=train if task else "",
        classes=any(option.startswith("--data.class_names") for option in data),
    )


def _of_channels(images: Sequence[str]) -> list[str]:
    """The number of channels of most of the first images, where it is not that of colours."""
    found: Counter[int] = Counter()
    for path in images[:_FIRST]:
        with suppress(XTError), open_image(path) as image:
            found[image.channels] += 1
    channels = found.most_common(1)[0][0] if found else _COLOURS
    return [] if channels == _COLOURS else [f"--model.in_channels={channels}"]


def _images_of_table(path: Path, overrides: Sequence[str]) -> list[str]:
    named = _values(overrides)
    columns = read_columns(path).get(named.get("--data.image_column", "image"), [])
    base = Path(named.get("--data.root", path.parent))
    return [str(image_path(base, value)) for value in columns[:_FIRST] if value]


def _values(overrides: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (option.partition("=") for option in overrides)}


def _of_folder(path: Path) -> tuple[str | None, list[str], list[str]]:
    folders = sorted(
        inner.name for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith(".")
    )
    if not folders or {name.lower() for name in folders} & _NOT_CLASSES:
        why = "it has no sub-folders of classes"
        if folders:
            why = f"its sub-folders {', '.join(folders[:6])} are no classes"
        return None, [f"images without labels, as {why}; a table with the columns image and mask, points or label "
                      "says what is known of them"], [f"--data.folder={path}"]  # fmt: skip
    try:
        read_folder(path, split_names=("train", "val", "test"))
    except TableError:
        return (
            None,
            ["images without labels, as none of its sub-folders holds images"],
            [f"--data.folder={path}"],
        )
    return "classification", ["classes, one of each sub-folder"], [f"--data.folder={path}"]


def _of_instances(path: Path) -> list[str]:
    options = [f"--data.coco={json.dumps([str(path)])}"]
    try:
        names = [
            str(entry["file_name"])
            for entry in json.loads(path.read_text(encoding="utf-8-sig"))["images"][:20]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        # What is wrong with it, its own reader says.
        return options
    folders = [path.parent, path.parent / "images", path.parent.parent / "images"]
    there = [sum((folder / name).exists() for name in names) for folder in folders]
    best = folders[int(np.argmax(there))]
    return options if best == path.parent else [*options, f"--data.images={json.dumps([str(best)])}"]


def _of_table(path: Path, overrides: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    columns = read_columns(path)
    data = [f"--data.table={path}"]
    named = _values(overrides)
    column = next((name for name in _COLUMNS if named.get(f"--data.{name}_column", name) in columns), None)
    if "--model.head" in named:
        return named["--model.head"], [], data
    if column is None and (labels := _listed(named.get("--data.label_columns", ""))):
        several = len(labels) > 1
        return (
            "multilabel" if several else "classification",
            [f"labels of {', '.join(map(repr, labels))}"],
            data,
        )
    if column is None:
        return None, [f"images without labels, as there is no column {', '.join(_COLUMNS)}"], data
    told = [f"{_COLUMNS[column]}, as there is a column {column!r}"]
    if column in ("mask", "polygons"):
        masks = columns[named.get("--data.mask_column", column)]
        base = Path(named.get("--data.root", path.parent))
        options, said = _of_masks([str(image_path(base, mask)) for mask in masks if mask], named)
        return "segmentation", told + said, data + options
    if column == "label":
        labels = columns[column]
        if _are_measures(labels):
            return "regression", ["numbers, as the labels are not whole"], data
        for mark in (";", "|"):
            if sum(mark in label for label in labels) > 0:
                told = [f"several labels an image, as there is {mark!r} between some"]
                return "multilabel", told, [*data, f"--data.label_separator={mark}"]
    return _COLUMNS[column], told, data


def _listed(text: str) -> list[str]:
    """Columns as a setting names them: `[a, b]`, or one alone."""
    names = listed_texts(text)
    return [text] * bool(text) if names is None else names


def _are_measures(labels: Sequence[str]) -> bool:
    try:
        return any(not float(label).is_integer() for label in labels if label)
    except (ValueError, OverflowError):
        return False


def _of_masks(paths: Sequence[str], named: dict[str, str]) -> tuple[list[str], list[str]]:
    """What the classes are, from the values of some of the masks."""
    if any(is_vector_file(path) for path in paths):
        # Polygons have names.
        return [], []
    if "--data.class_names" in named or "--data.mask_values" in named:
        return [], []
    masks_with: Counter[float] = Counter()
    looked_at = 0
    for place in np.unique(np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).astype(int)):
        try:
            with open_image(paths[place]) as mask:
                if mask.channels == 1:
                    masks_with.update(mask_values(mask).keys())
                    looked_at += 1
        except XTError:
            # It is said of its row.
            continue
    # What one mask of many has, is more likely a mistake in it.
    enough = 2 if looked_at >= _SEVERAL else 1
    values = [value for value, count in masks_with.items() if count >= enough]
    whole = sorted(int(value) for value in values if float(value).is_integer() and value >= 0)
    if not whole:
        return [], []
    seen = f"the values {', '.join(map(str, whole[:12]))}{', ...' if len(whole) > 12 else ''} of {looked_at} masks"
    if whole in ([0, _UNKNOWN], [_UNKNOWN]):
        # As drawing programs write black and white.
        return ["--data.class_names=[background, object]", "--data.mask_values=[0, 255]"], [
            f"0 and 255 are two classes, by {seen}"
        ]
    numbers = [value for value in whole if value != _UNKNOWN]
    last = max(numbers, default=0)
    if last < _MOST_CLASSES:
        names = ", ".join(f"class{number}" for number in range(max(last + 1, 2)))
        return [f"--data.class_names=[{names}]"], [f"{last + 1} classes, by {seen}"]
    if len(numbers) <= _MOST_CLASSES:
        names = ", ".join(f"value{number}" for number in numbers)
        return [f"--data.class_names=[{names}]", f"--data.mask_values={numbers}"], [
            f"{len(numbers)} classes, each a value of the masks, by {seen}"
        ]
    return [], []


def _spaced(options: Sequence[str]) -> list[str]:
    """`--a=b` as `--a`, `b`, as people type it."""
    return [part for option in options for part in option.split("=", 1)]
