"""Columns of a table that are called otherwise than expected: what each is for, where there is little doubt."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xt.data.table_files import read_columns
from xt.images.names import is_there
from xt.images.suffixes import is_image_name
from xt.labels.image_table import image_path

_FILES = ("mask", "polygons", "points", "boxes")
LABELS = ("label", *_FILES)
_NO_LABELS = frozenset(
    [
        "image",
        "split",
        "fold",
        "micronsperpixel",
        "id",
        "index",
        "group",
        "case",
        "patient",
        "subject",
        "slide",
    ]
)
_ANSWERS = frozenset(
    ["label", "labels", "class", "target", "diagnosis", "category", "species", "subtype", "grade"]
)
_SPLITS = {
    "train_split": ("train", "training"),
    "validation_split": ("val", "valid", "validation", "dev"),
    "test_split": ("test", "testing"),
}
_SPLIT_COLUMNS = ("split", "set", "subset")
_LABELS = "labels.label_columns"
_LOOKED_AT = 9
_WORDS = {
    "image_column": "images of the column",
    "root": "which lie in the folder",
    "split_column": "splits of the column",
}


@dataclass(frozen=True)
class Meant:
    """What columns seem to be for.

    Attributes:
        settings: `--section.name=value` for what is called otherwise than expected; empty for a table as expected.
        told: the same as sentences.
        candidates: columns that may be the one of the answers, where there are several or none is sure.
        images: the column of the images; None where no column holds names of image files.
    """

    settings: tuple[str, ...]
    told: tuple[str, ...]
    candidates: tuple[str, ...]
    images: str | None


def columns_meant(path: Path, overrides: Sequence[str] = ()) -> Meant:
    """What the columns of a table seem to be for; what `overrides` say already is not guessed.

    Raises:
        TableError: there is no such table, or it is none.
    """
    columns = read_columns(path)
    named = {name: value for name, _, value in (option.partition("=") for option in overrides)}
    settings: dict[str, str] = {}
    images = named.get("--data.image_column", "image")
    if images not in columns:
        images = next(
            (name for name, values in columns.items() if name not in LABELS and _are_images(values)), ""
        )
        if not images or "--data.image_column" in named:
            return Meant((), (), _candidates(columns, images), None)
        settings["image_column"] = images
    files = [images, *(name for name in _FILES if name in columns)]
    folder = _folder_with([columns[name] for name in files], path.parent)
    if folder is not None and "--data.root" not in named:
        settings["root"] = str(folder)
    candidates: tuple[str, ...] = ()
    if not _has_labels(columns, named):
        candidates = _candidates(columns, images)
        if len(candidates) == 1:
            settings[_LABELS] = f"[{candidates[0]}]"
    settings |= _split_settings(columns, named)
    return Meant(
        tuple(f"--{name if name == _LABELS else f'data.{name}'}={value}" for name, value in settings.items()),
        tuple(f"{_WORDS[name]} {value}" for name, value in settings.items() if name in _WORDS),
        candidates,
        images,
    )


def _has_labels(columns: Mapping[str, object], named: Mapping[str, str]) -> bool:
    if "--labels.label_columns" in named or "--model.head" in named:
        return True
    return any(named.get(f"--labels.{name}_column", name) in columns for name in LABELS)


def _are_images(values: Sequence[str]) -> bool:
    there = [value for value in values if value]
    return bool(there) and all(map(is_image_name, there))


def _candidates(columns: Mapping[str, Sequence[str]], images: str) -> tuple[str, ...]:
    found = [
        name
        for name, values in columns.items()
        if name != images and not _tells_apart(name) and _are_answers(values)
    ]
    called_so = [name for name in found if name.lower() in _ANSWERS]
    return tuple(called_so if len(called_so) == 1 else found)


def _tells_apart(name: str) -> bool:
    """Whether a column is called like one that says which image it is, or where it belongs: `PatientID`, `Split`."""
    alone = re.sub(r"([_ .-]id|(?<=[a-z])I[dD])$", "", name, flags=re.ASCII)
    return alone != name or re.sub(r"[_ .-]", "", name).lower() in _NO_LABELS


def _are_answers(values: Sequence[str]) -> bool:
    """Whether a column can hold classes: values that come back, and no files."""
    there = [value for value in values if value]
    return len(set(there)) > 1 and len(set(there)) < len(there) and not any(map(is_image_name, there))


def _folder_with(files: Sequence[Sequence[str]], base: Path) -> Path | None:
    """The one folder beside a table in which the files of some of its columns lie, where they do not lie as it says."""
    first = [value for values in files for value in [value for value in values if value][:_LOOKED_AT]]
    if not first or not base.is_dir() or any(is_there(str(image_path(base, value))) for value in first):
        return None
    holding = [
        folder
        for folder in sorted(base.iterdir())
        if folder.is_dir() and all(is_there(str(image_path(folder, value))) for value in first)
    ]
    return holding[0] if len(holding) == 1 else None


def _split_settings(columns: Mapping[str, Sequence[str]], named: Mapping[str, str]) -> dict[str, str]:
    """Which column says the splits, and what it calls training, validation and test."""
    name = next((name for name in columns if name.lower() in _SPLIT_COLUMNS), None)
    if name is None or "--data.split_column" in named:
        return {}
    there = sorted({value for value in columns[name] if value})
    found = {
        setting: value
        for setting, words in _SPLITS.items()
        if (value := next((value for value in there if value.lower() in words), None)) is not None
    }
    if not {"train_split", "validation_split"} <= found.keys():
        return {}
    settings = {} if name == "split" else {"split_column": name}
    return settings | {
        setting: value
        for setting, value in found.items()
        if value != _SPLITS[setting][0] and f"--data.{setting}" not in named
    }
