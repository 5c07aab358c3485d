"""Which images there are and what is known of them: a table (CSV, Parquet) or a folder per class.

Nothing here opens an image. A label becomes a target once, here: the class's place in `class_names`
(classification), a row of 0 and 1 (multi-label) or of numbers (regression).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xt.errors import ConfigError, TableError
from xt.images import stack_parts
from xt.images.ome_zarr import is_ome_zarr
from xt.images.remote import is_remote

IMAGE_SUFFIXES = frozenset(
    [
        *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".img"),
        *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide"),
    ]
)
TASKS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class ImageTable:
    """Images and their targets.

    Attributes:
        source: the table or folder this came from, for messages.
        targets: (N,) int64 for classes; (N, K) float32 for multi-label (0 or 1) and regression; for masks and points
            (N,) `Target`s, see `xt.data.targets`.
        class_names: the K names of the model's outputs, in order.
        splits: the split's name of every image, if the table says.
    """

    source: str
    paths: tuple[Path, ...]
    targets: np.ndarray
    class_names: tuple[str, ...]
    splits: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Iterable[int]) -> "ImageTable":
        """The images at these places, in this order."""
        chosen = [int(index) for index in indices]
        return ImageTable(
            source=self.source,
            paths=tuple(self.paths[index] for index in chosen),
            targets=self.targets[chosen],
            class_names=self.class_names,
            splits=None if self.splits is None else tuple(self.splits[index] for index in chosen),
        )

    def split(self, name: str) -> "ImageTable":
        """The images of one split.

        Raises:
            TableError: there is no image of this split; names the splits there are.
        """
        if self.splits is None:
            raise TableError(f"{self.source} has no split column, so there is no split {name!r}")
        chosen = [index for index, split in enumerate(self.splits) if split == name]
        if not chosen:
            there = ", ".join(f"{split!r} ({self.splits.count(split)})" for split in sorted(set(self.splits)))
            raise TableError(f"{self.source}: the split {name!r} is empty; the splits there are: {there}")
        return self.subset(chosen)

    def check_files(self) -> None:
        """Refuse a table with images that are not on disk.

        Raises:
            TableError: names the first few missing files and how many there are.
        """
        check_paths(self.paths, self.source, "images")


def read_table(
    path: str | Path,
    *,
    task: str = "classification",
    image_column: str = "image",
    label_columns: Sequence[str] = ("label",),
    label_separator: str | None = None,
    class_names: Sequence[str] | None = None,
    split_column: str = "split",
    root: str | Path | None = None,
) -> ImageTable:
    """Read a CSV or Parquet file with one row per image; files joined by "|" are one image, see `xt.stack`.

    Args:
        task: classification, multilabel or regression.
        class_names: labels in the order of the outputs; without it, the sorted labels of the table (by value
            if all are whole numbers).
        split_column: may be absent only if it is called `split`; then `splits` is None.
        root: where relative paths start; without it, the table's folder.
    Raises:
        TableError: the file, a column or a label is missing or unknown.
    """
    path = Path(path)
    if task not in TASKS:
        raise ConfigError(f"label columns give targets for {', '.join(TASKS)}, not for {task!r}")
    frame = _read_frame(path)
    needed = [image_column, *label_columns] + ([split_column] if split_column != "split" else [])
    for column in needed:
        _check_column(frame, column, path)
    if frame.empty:
        raise TableError(f"{path} has no rows; expected one row per image")
    base = path.parent if root is None else Path(root)
    paths = tuple(image_path(base, value) for value in _texts(frame, image_column, path))
    names: tuple[str, ...]
    if task == "regression":
        targets = np.stack([_numbers(frame, column, path) for column in label_columns], axis=1)
        names = tuple(label_columns)
    elif task == "multilabel" and label_separator is None:
        targets, names = _zeros_and_ones(frame, label_columns, class_names, path)
    elif task == "multilabel":
        sets = [
            [part.strip() for part in text.split(label_separator) if part.strip()]
            for text in _texts(frame, label_columns[0], path, allow_empty=True)
        ]
        names = names_of_labels((label for labels in sets for label in labels), class_names)
        targets = np.zeros((len(sets), len(names)), np.float32)
        for row, labels in enumerate(sets):
            targets[row, class_indices(labels, names, str(path))] = 1
    else:
        if len(label_columns) > 1:
            raise TableError(
                f"{path}: classification takes one label column, got {', '.join(label_columns)}; "
                "for several labels per image set model.head to 'multilabel'"
            )
        texts = _texts(frame, label_columns[0], path)
        names = names_of_labels(texts, class_names)
        targets = class_indices(texts, names, str(path))
    splits = tuple(_texts(frame, split_column, path)) if split_column in frame else None
    return ImageTable(str(path), paths, targets, names, splits)


def read_image_paths(
    path: str | Path, image_column: str = "image", root: str | Path | None = None
) -> tuple[Path, ...]:
    """The image paths alone of a CSV or Parquet file, as `read_table` finds them.

    Raises:
        TableError: the file or the column is missing, or there are no rows.
    """
    path = Path(path)
    frame = _read_frame(path)
    _check_column(frame, image_column, path)
    if frame.empty:
        raise TableError(f"{path} has no rows; expected one row per image")
    base = path.parent if root is None else Path(root)
    return tuple(image_path(base, value) for value in _texts(frame, image_column, path))


def read_paths(
    path: str | Path, image_column: str, label_column: str, split_column: str, root: str | Path | None
) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[str, ...] | None]:
    """The paths of images and of the files with their labels, and the splits' names if the table says, from a CSV or
    Parquet file; all else as in `read_table`.

    Raises:
        TableError: the table, a column or a file with labels is missing, or there are no rows.
    """
    images = read_image_paths(path, image_column, root)
    path = Path(path)
    frame = _read_frame(path)
    for column in [label_column] + ([split_column] if split_column != "split" else []):
        _check_column(frame, column, path)
    base = path.parent if root is None else Path(root)
    labels = tuple(image_path(base, value) for value in _texts(frame, label_column, path))
    check_paths(labels, str(path), f"files in column {label_column!r}")
    return images, labels, tuple(_texts(frame, split_column, path)) if split_column in frame else None


def check_paths(paths: Sequence[Path], source: str, what: str) -> None:
    """Refuse files that are not on disk.

    Args:
        paths: of a stack, all its files joined.
        what: they are, for the message.
    Raises:
        TableError: names the first few missing files and how many there are.
    """
    # What lies elsewhere is asked for when its turn comes.
    lacking = [
        [part for part in stack_parts(str(path)) if not is_remote(part) and not Path(part).exists()]
        for path in paths
    ]
    missing = [parts for parts in lacking if parts]
    if missing:
        files = [part for parts in missing for part in parts]
        some = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        raise TableError(
            f"{source}: {len(missing)} of {len(paths)} {what} are not on disk: {some}; "
            "relative paths start from the table's folder, or from data.root (data.images for COCO's files, --root of "
            "`xt evaluate`) if that is set"
        )


def image_path(base: Path, value: str) -> Path:
    """The path of an image that a table names; of a stack ("VH.tif|VV.tif") each part starts at the folder `base`."""
    if len(stack_parts(str(base / value))) == 1:
        return _below(base, value)
    return Path("|".join(str(_below(base, part)) for part in stack_parts(value)))


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
    parts = (
        [(name, path / name) for name in split_names if (path / name).is_dir()] if divided else [("", path)]
    )
    rows: list[tuple[Path, str, str]] = []
    for split, part in parts:
        for folder in sorted(inner for inner in part.iterdir() if inner.is_dir() and inner.name[0] != "."):
            rows += [(file, folder.name, split) for file in sorted(folder.rglob("*")) if _is_image(file)]
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


def class_indices(labels: Sequence[str], class_names: Sequence[str], source: str) -> np.ndarray:
    """(N,) int64: each label's place in `class_names`.

    Raises:
        TableError: a label is not among the names; says which, in which rows, and what the names are.
    """
    place = {name: index for index, name in enumerate(class_names)}
    unknown = {label: row for row, label in reversed(list(enumerate(labels))) if label not in place}
    if unknown:
        first, row = min(unknown.items(), key=lambda item: item[1])
        near = difflib.get_close_matches(first, class_names, n=1)
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise TableError(
            f"{source}: unknown label {first!r} (row {row}){more}; the model knows {_some(class_names)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return np.array([place[label] for label in labels], dtype=np.int64)


def _read_frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path}: there is no such table; expected a CSV or Parquet file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        # As text: a label "007" or "NA" must stay what it is.
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty; expected a first line with the columns' names") from None
    except (ValueError, OSError) as error:
        raise TableError(
            f"{path} is not a readable CSV or Parquet table ({' '.join(str(error).split())})"
        ) from None


def _check_column(frame: pd.DataFrame, column: str, path: Path) -> None:
    if column in frame:
        return
    columns = [str(name) for name in frame.columns]
    near = difflib.get_close_matches(column.lower(), [name.lower() for name in columns], n=1, cutoff=0.5)
    guess = next((name for name in columns if near and name.lower() == near[0]), None)
    raise TableError(
        f"{path} has no column {column!r}; its columns are {_some(columns)}"
        + (f"; did you mean {guess!r}?" if guess else ";")
        + " which columns are read is set by data.image_column and the settings beside it"
    )


def _texts(frame: pd.DataFrame, column: str, path: Path, allow_empty: bool = False) -> list[str]:
    # Parquet may hold whole numbers as floats with gaps (3.0): they are the labels "3".
    values = frame[column]
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    texts = ["" if pd.isna(value) else str(value).strip() for value in values]
    empty = [row for row, text in enumerate(texts) if not text]
    if empty and not allow_empty:
        raise TableError(f"{path}: column {column!r} is empty in {_rows(empty)}; every image needs a value")
    return texts


def _numbers(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float32, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise TableError(
            f"{path}: column {column!r} must hold a finite number for every image, got "
            f"{str(frame[column].iloc[wrong[0]])!r} in {_rows(wrong.tolist())}"
        )
    return numbers


def _zeros_and_ones(
    frame: pd.DataFrame, columns: Sequence[str], class_names: Sequence[str] | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = tuple(class_names or columns)
    if set(names) != set(columns):
        raise TableError(
            f"{path}: the model knows the classes {_some(names)}, the label columns are {_some(columns)}; "
            "they must be the same"
        )
    targets = np.stack([_numbers(frame, name, path) for name in names], axis=1)
    wrong = np.argwhere((targets != 0) & (targets != 1))
    if len(wrong):
        row, column = wrong[0]
        raise TableError(
            f"{path}: multi-label columns hold 0 or 1, got {targets[row, column]:g} in column "
            f"{names[column]!r}, "
            f"row {row}; for labels in one column set data.label_separator"
        )
    return targets, names


def names_of_labels(labels: Iterable[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or those that occur, sorted: by value if all are whole numbers."""
    if given is not None:
        return tuple(given)
    found = set(labels)
    if all(label.lstrip("-").isdecimal() for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def _below(base: Path, value: str) -> Path:
    # `open_image` gives "https:/..." its second slash back.
    return Path(value) if is_remote(value) else base / value


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    # OME-Zarr is a folder.
    return (
        path.is_file()
        if path.suffix.lower() in IMAGE_SUFFIXES
        else path.suffix == ".zarr" and is_ome_zarr(path)
    )


def _rows(rows: Sequence[int]) -> str:
    some = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {some} (counted from 0)"


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:12]) + (f", ... ({len(names)})" if len(names) > 12 else "")
