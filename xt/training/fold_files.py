"""What the model of a fold leaves of the images that it held out, and what all of them together come to.

OUT/config.yaml          of the run, as it was given
OUT/folds.csv            which image is in which fold
OUT/fold-1/              a run folder as of one model, and besides
    held_out/            its evaluation on the images that it held out
    held_out.csv, .npz   of each of these images what was predicted
    fold.json            its metrics on them; written last
OUT/out_of_fold.csv      all of held_out.csv: of every image the answer of a model that has not seen it
OUT/folds.json           the metrics: of each fold, their mean and deviation, and of all images together
"""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.data.folds import Fold
from xt.data.splits import Splits
from xt.errors import CheckpointError, OutputError
from xt.labels.image_table import ImageTable
from xt.output import atomic_path, write_atomically
from xt.tasks.base import Evaluated
from xt.tasks.csv_rows import as_csv, as_now

DIVISION, OUT_OF_FOLD, SUMMARY = "folds.csv", "out_of_fold.csv", "folds.json"
WEIGHTS = "model.safetensors"
_DONE, _ROWS, _ARRAYS = "fold.json", "held_out.csv", "held_out.npz"


def write_held_out(folder: Path, fold: Fold, measured: Evaluated, splits: Splits) -> None:
    """Write what a model found of the images that it held out.

    Args:
        folder: of its run.
        splits: of its run; the fold is what it was tested on.
    Raises:
        OutputError: the folder cannot be written to.
    """
    table = measured.table
    measured.write(folder / "held_out")
    of_each = measured.of_each()
    groups: list[dict[str, str]] = [{}] * len(table)
    if table.groups is not None:
        groups = [{"group": group} for group in table.groups]
    rows = [
        {_first(table): str(path), **group, "fold": fold.number, "repeat": fold.repeat, **row}
        for path, group, row in zip(table.paths, groups, of_each, strict=True)
    ]
    write_atomically(folder / _ROWS, as_csv([list(rows[0]), *(list(row.values()) for row in rows)]))
    with atomic_path(folder / _ARRAYS) as path:
        np.savez(path, **measured.arrays)  # type: ignore[arg-type]
    known = {name: None if math.isnan(value) else value for name, value in measured.metrics.items()}
    sizes = {name: len(part) for name, part in splits.parts.items()}
    sizes["held_out"] = sizes.pop("test")
    done = {"fold": fold.number, "repeat": fold.repeat, "images": sizes, "metrics": known}
    write_atomically(folder / _DONE, json.dumps(done, indent=2) + "\n")


def _first(table: ImageTable) -> str:
    """What the first column names."""
    return "image" if table.counts is None else "case"


def is_done(folder: Path) -> bool:
    """Whether the model of a fold is trained and measured."""
    return (folder / _DONE).exists()


def models_of(path: Path) -> list[Path]:
    """The run folders of the models in a folder of folds; none where it is not one.

    Raises:
        CheckpointError: they are not all trained yet.
    """
    if not (path / DIVISION).is_file() or (path / WEIGHTS).exists():
        return []
    if not (path / SUMMARY).is_file():
        done = sorted(folder.parent.name for folder in path.glob(f"*/{_DONE}"))
        raise CheckpointError(
            f"{path} holds folds that are not all trained: go on with them (`xt train` with --resume)"
            + (f", or name one of the models: {', '.join(done)}" if done else "")
        )
    found = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    return [path / one["folder"] for one in found["models"]]


def images_of(path: Path) -> set[str]:
    """The images that models in a folder of folds have learned from, each of them all but its own fold."""
    with (path / DIVISION).open(newline="", encoding="utf-8") as file:
        return {row["image"] for row in csv.DictReader(file)}


def read_paths(folder: Path) -> list[str]:
    """The images that a model held out, in the order of what it found of them."""
    with (folder / _ROWS).open(newline="", encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file)][1:]


def read_done(folder: Path) -> dict[str, Any]:
    """What `write_held_out` wrote last: fold, repeat, images, metrics.

    Raises:
        OutputError: it is damaged.
    """
    try:
        return dict(json.loads((folder / _DONE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{folder / _DONE} cannot be read ({error}); remove the folder {folder}, and go on without it (--resume)"
        ) from error


def read_arrays(folders: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """What the models found of the images that they held out, one model behind the other."""
    found: dict[str, list[NDArray[Any]]] = {}
    for folder in folders:
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            for name in arrays.files:
                found.setdefault(name, []).append(arrays[name])
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def write_out_of_fold(out: Path, folders: Iterable[Path]) -> None:
    """Put the rows of all folds into one table."""
    rows: list[dict[str, str]] = []
    for folder in folders:
        with (folder / _ROWS).open(newline="", encoding="utf-8") as file:
            rows += map(as_now, csv.DictReader(file))
    head = list(dict.fromkeys(name for row in rows for name in row))
    write_atomically(
        out / OUT_OF_FOLD, as_csv([head, *([row.get(name, "") for name in head] for row in rows)])
    )


def division_text(table: ImageTable, numbers: Mapping[int, NDArray[np.intp]]) -> str:
    """Which image is in which fold, as a CSV file.

    Args:
        numbers: by repeat, from 1; see `fold_numbers`.
    """
    groups = table.groups
    head = ["image", *([] if groups is None else ["group"]), "repeat", "fold"]
    rows: list[list[Any]] = [
        [str(path), *([] if groups is None else [groups[place]]), repeat, int(of_image[place])]
        for repeat, of_image in numbers.items()
        for place, path in enumerate(table.paths)
    ]
    return as_csv([head, *rows])


def metrics_of_folds(done: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each metric its value in each fold, their mean and standard deviation; folds in which there was nothing to
    measure do not count.

    Args:
        done: as of `read_done`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for one in done for name in one["metrics"]):
        values = [one["metrics"].get(name) for one in done]
        known = [value for value in values if value is not None]
        found[name] = {
            "mean": statistics.fmean(known) if known else None,
            "std": statistics.stdev(known) if len(known) > 1 else None,
            "folds": values,
        }
    return found
