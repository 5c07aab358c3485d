"""What a table, a folder or a file of boxes is for, where no configuration says so: guessed, and said."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xt.checking.columns import columns_meant
from xt.config.files import listed_texts
from xt.config.parser import load_config
from xt.config.run import RunConfig
from xt.data.class_folders import read_folder
from xt.data.table_files import read_columns
from xt.errors import TableError, XTError
from xt.images import open_image
from xt.labels.image_table import image_path
from xt.prediction.inputs import find_images
from xt.tasks import TASKS, task_of
from xt.tasks.base import Guess

# As in the recipes of xt/recipes.
_MODEL = (
    "--model.encoder=convnext_tiny.in12k_ft_in1k",
    "--model.region_size=256",
    "--model.tokens_per_region=16",
)
# How settings of labels begin.
_LABELS = "--labels."
# Columns that say what a table is for, and the task; the first that is there counts, and files of labels before others.
_COLUMNS = {
    column: task
    for about_places in (True, False)
    for task in TASKS.values()
    if task.about_places is about_places
    for column in task.columns
}
_FIRST = 9
_COLOURS = 3
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
        task, data = _taking("boxes"), _of_instances(path)
        told = ["boxes, as the file is JSON of COCO's kind"]
        # Grey images stand among coloured ones there.
        images = []
    else:
        meant = columns_meant(path, overrides)
        task, told, data = _of_table(path, [*meant.settings, *overrides])
        told, data = [*told, *meant.told], [*data, *meant.settings]
        images = _images_of_table(path, [*meant.settings, *overrides])
    head = (f"--model.head={task}",) if task else ()
    typed = [*data, *_of_channels(images), *overrides]
    usual = task_of(task).recipe_settings if task else ()
    config = load_config(None, [*_MODEL, *usual, *head, *typed])
    recipe = task_of(task).recipe if task else ""
    other_head = [f"--model.head={task}"] if task not in (None, recipe) else []
    train = shlex.join(["xt", "train", recipe, *_spaced([*other_head, *typed])])
    return Assumed(
        config=config,
        task=task,
        told=tuple(told),
        train=train if task else "",
        classes=any(option.startswith("--labels.class_names") for option in data),
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
    return _taking("classes"), ["classes, one of each sub-folder"], [f"--data.folder={path}"]


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
    column = next((name for name in _COLUMNS if named.get(f"--labels.{name}_column", name) in columns), None)
    if "--model.head" in named:
        return named["--model.head"], [], data
    if column is None and (labels := _listed(named.get("--labels.label_columns", ""))):
        name, _, _ = _of_answers(len(labels), ())
        return name, [f"labels of {', '.join(map(repr, labels))}"], data
    if column is None:
        return None, [f"images without labels, as there is no column {', '.join(_COLUMNS)}"], data
    task = _COLUMNS[column]
    told = [f"{task.name}, as there is a column {column!r}"]
    values = columns[named.get(f"--labels.{column}_column", column)]
    if task.about_places:
        base = Path(named.get("--data.root", path.parent))
        guess = task.guess_files([str(image_path(base, value)) for value in values if value], _fields(named))
        return task.name, [*told, *guess.told], [*data, *_settings(guess)]
    name, said, options = _of_answers(1, values)
    return name, said or told, [*data, *options]


def _of_answers(num_columns: int, labels: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The task that labels in a table's own columns are for; the usual one where they say nothing else."""
    for task in TASKS.values():
        guess = task.guess_labels(num_columns, labels)
        if guess is not None:
            return task.name, list(guess.told), _settings(guess)
    return _taking("classes"), [], []


def _settings(guess: Guess) -> list[str]:
    return [f"{_LABELS}{name}={value}" for name, value in guess.labels.items()]


def _fields(named: Mapping[str, str]) -> list[str]:
    return [name.removeprefix(_LABELS) for name in named]


def _taking(labels: str) -> str:
    """The task that takes a source's own labels of this kind."""
    return next(task.name for task in TASKS.values() if task.takes == labels)


def _listed(text: str) -> list[str]:
    """Columns as a setting names them: `[a, b]`, or one alone."""
    names = listed_texts(text)
    return [text] * bool(text) if names is None else names


def _spaced(options: Sequence[str]) -> list[str]:
    """`--a=b` as `--a`, `b`, as people type it."""
    return [part for option in options for part in option.split("=", 1)]
