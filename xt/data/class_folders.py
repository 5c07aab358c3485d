"""A folder with one sub-folder of images per class, as a table of images."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from xt.errors import TableError
from xt.images.folders import images_below
from xt.labels.image_table import ImageTable, class_indices, names_of_labels


def read_folder(
    path: str | Path, *, class_names: Sequence[str] | None = None, split_names: Sequence[str] = ()
) -> ImageTable:
    """Read a folder with one sub-folder of images per class; hidden files and other kinds of file are left
    out.

    Args:
        split_names: if the folder has a sub-folder named as the first of these, the class folders are looked
            for in the sub-folders of these names.
    Raises:
        TableError: no such folder, or no images in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise TableError(f"{path}: expected a folder with one sub-folder of images per class; there is none")
    divided = bool(split_names) and (path / split_names[0]).is_dir()
    if divided:
        parts = [(name, path / name) for name in split_names if (path / name).is_dir()]
        _warn_of_others(path, split_names)
    else:
        parts = [("", path)]
    rows: list[tuple[Path, str, str]] = []
    for split, part in parts:
        for folder in _folders(part):
            rows += [(Path(image), folder.name, split) for image in images_below(folder)]
    if not rows:
        raise TableError(
            f"{path}: found no images; expected one sub-folder per class with files such as .tif, .svs or "
            ".png in it"
        )
    files, labels, splits = zip(*rows, strict=True)
    names = names_of_labels(labels, class_names)
    return ImageTable(
        str(path), files, class_indices(labels, names, str(path)), names, tuple(splits) if divided else None
    )


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _warn_of_others(path: Path, split_names: Sequence[str]) -> None:
    others = [repr(folder.name) for folder in _folders(path) if folder.name not in split_names]
    if others:
        warnings.warn(
            f"{path}: the folders {', '.join(others)} are left out; training, validation and test are called "
            f"{', '.join(map(repr, split_names))} (data.train_split, data.validation_split, data.test_split)",
            stacklevel=3,
        )
