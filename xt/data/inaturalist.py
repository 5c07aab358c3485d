"""iNaturalist 2018: the official files, as they are unpacked.

A folder with `train2018.json` and `val2018.json`, the images in `train_val2018/`, and `categories.json`, the list of
the species' names that was published after the competition: the other two call them by numbers. They hold 8,142 species
with 437,513 images for training and 24,426 for validation, three of each species. Of the test images no labels were
published.
Source: https://github.com/visipedia/inat_comp/tree/master/2018
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xt.errors import TableError
from xt.labels.image_table import ImageTable, class_indices
from xt.registry import nearest

ANNOTATIONS = {"train": "train2018.json", "validation": "val2018.json"}
CATEGORIES = "categories.json"
# What a category says of itself, from the widest group of species to the narrowest.
RANKS = ("kingdom", "phylum", "supercategory", "class", "order", "family", "genus", "name")


def is_inaturalist(folder: str | Path) -> bool:
    """Whether the folder holds annotations of iNaturalist 2018."""
    return any((Path(folder) / name).is_file() for name in ANNOTATIONS.values())


def read_inaturalist(
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    train_split: str = "train",
    validation_split: str = "val",
) -> ImageTable:
    """The images of these classes, each species being a class.

    Args:
        classes: names of supercategories ("Reptilia"), of other groups (kingdom to genus), of species, or category
            numbers; all species without any.
        class_names: species in the order of a model's outputs; without it, the chosen ones by category number, whether
            or not they have images.
        train_split: what the split of `train2018.json` is called, and `validation_split` that of `val2018.json`.
    Raises:
        TableError: a file is missing or not what it should be, or a class is unknown.
    """
    folder = Path(folder)
    files = {name: folder / file for name, file in ANNOTATIONS.items() if (folder / file).is_file()}
    if not files:
        raise TableError(
            f"{folder} has neither {' nor '.join(ANNOTATIONS.values())}; expected the folder that iNaturalist 2018 was "
            "unpacked to"
        )
    contents = {name: _read(path) for name, path in files.items()}
    source = folder / CATEGORIES
    if source.is_file():
        categories = _entries(_read(source), source)
    else:
        source = next(iter(files.values()))
        categories = _entries(contents[next(iter(files))], source, "categories")
    names = species_names(choose(categories, classes, source))
    split_names = {"train": train_split, "validation": validation_split}
    paths: list[Path] = []
    labels: list[str] = []
    splits: list[str] = []
    for name, path in files.items():
        for file, category in _images(contents.pop(name), path, {entry["id"] for entry in categories}):
            if category in names:
                paths.append(folder / file)
                labels.append(names[category])
                splits.append(split_names[name])
    if not paths:
        files_read = ", ".join(str(path) for path in files.values())
        raise TableError(f"{files_read}: there is no image of the {len(names)} classes that were chosen")
    ordered = tuple(names.values()) if class_names is None else tuple(class_names)
    return ImageTable(
        str(folder), tuple(paths), class_indices(labels, ordered, str(folder)), ordered, tuple(splits)
    )


def choose(
    categories: Sequence[Mapping[str, Any]], classes: Sequence[str], source: Path
) -> list[Mapping[str, Any]]:
    """The categories, by number, that belong to any of these classes.

    Raises:
        TableError: a class is none of them, nor a group that any belongs to.
    """
    ordered = sorted(categories, key=lambda entry: int(entry["id"]))
    if not classes:
        return ordered
    groups = [{str(entry["id"]), *(str(entry[rank]) for rank in RANKS if rank in entry)} for entry in ordered]
    known = set().union(*groups)
    for wanted in classes:
        if wanted not in known:
            supercategories = sorted(
                {str(entry["supercategory"]) for entry in ordered if "supercategory" in entry}
            )
            raise TableError(
                f"{source} has no class {wanted!r}{nearest(wanted, known)}; the supercategories are "
                f"{', '.join(supercategories)}"
            )
    chosen = set(classes)
    return [entry for entry, group in zip(ordered, groups, strict=True) if group & chosen]


def species_names(categories: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """Category number -> name; of a name that several have, each with its number behind it."""
    often = Counter(str(entry["name"]) for entry in categories)
    return {
        entry["id"]: str(entry["name"])
        if often[str(entry["name"])] == 1
        else f"{entry['name']} ({entry['id']})"
        for entry in categories
    }


def _images(content: Any, path: Path, known: set[Any]) -> list[tuple[str, Any]]:
    """(file, category) of every annotation, in the file's order."""
    found = []
    try:
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        for entry in content["annotations"]:
            image, category = entry["image_id"], entry["category_id"]
            if image not in files or category not in known:
                what = f"image {image}" if image not in files else f"category {category}"
                raise TableError(f"{path} has an annotation of {what}, which is not listed")
            found.append((files[image], category))
    except (KeyError, TypeError) as error:
        what = f"lacks {error} somewhere" if isinstance(error, KeyError) else f"is of another form ({error})"
        raise TableError(
            f"{path} {what}; expected 'images' with id and file_name, and 'annotations' with image_id and "
            "category_id, as iNaturalist's files have them"
        ) from None
    return found


def _entries(content: Any, path: Path, key: str | None = None) -> list[Mapping[str, Any]]:
    entries = content.get(key) if key is not None and isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("id"), int) and "name" in entry for entry in entries
    ):
        raise TableError(
            f"{path}: expected a list of categories with id, name and supercategory"
            + ("" if key is None else f" under {key!r}, or a file {CATEGORIES} beside it")
        )
    if not entries or len({entry["id"] for entry in entries}) < len(entries):
        raise TableError(f"{path} has {'no categories' if not entries else 'two categories of one id'}")
    return entries


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is not a readable JSON file ({' '.join(str(error).split())})") from None


__all__ = ["choose", "is_inaturalist", "read_inaturalist", "species_names"]
