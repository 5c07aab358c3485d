"""Images and labels where a configuration was expected: which recipe fits them, and the line to type."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from xt.checking.assumptions import assume
from xt.data.table_files import read_columns
from xt.images.suffixes import is_image_name

_LABELS = ("label", "mask", "polygons", "points", "boxes")
_NO_LABELS = ("image", "split", "microns_per_pixel", "id", "index", "group", "case", "patient")
_INATURALIST = "train2018.json"


def propose(source: str, overrides: Sequence[str] = (), *, command: str = "train") -> str:
    """What is missing beside a source of images, and the line to type, as one text.

    Args:
        overrides: `--section.key=value`, which were typed already.
        command: `train` or another one that takes a configuration.
    Raises:
        XTError: there is no such table, or it is none.
    """
    path = Path(source)
    if os.path.isfile(path / "config.yaml"):
        line = shlex.join(["xt", command, str(path / "config.yaml")])
        return f"{source} is the folder of a run, not a configuration; the one it was trained with:\n  {line}"
    if is_image_name(source) and not path.is_dir():
        line = shlex.join(["xt", command, "classification", "--data.table", "slides.csv"])
        return f"{source} is an image; expected a recipe, and a table with a row and its answer for each:\n  {line}"
    if os.path.isfile(path / _INATURALIST):
        recipe = ["inaturalist/swin_t_hyper_512_256", "--data.inaturalist", source, *overrides]
        return _told(source, "iNaturalist 2018", shlex.join(["xt", command, *recipe]))
    found = [] if path.is_dir() or path.suffix.lower() == ".json" else _columns_meant(path, overrides)
    assumed = assume(source, [*found, *overrides])
    if assumed.task is None and path.is_dir():
        return f"{source} is no configuration, and has {assumed.told[0]}"
    if assumed.task is None:
        line = shlex.join(["xt", command, "classification", "--data.table", source, *found])
        return (
            f"{source} is no configuration, and has {assumed.told[0]}; its columns are "
            f"{', '.join(read_columns(path))}. Name the one of the answers:\n  {line} --data.label_columns '[COLUMN]'"
        )
    return _told(
        source, "; ".join(assumed.told) or assumed.task, assumed.train.replace("xt train", f"xt {command}", 1)
    )


def _told(source: str, why: str, line: str) -> str:
    return (
        f"{source} says which images there are, not how to train: a recipe or a configuration is missing before it. "
        f"By what is in it ({why}), this one fits:\n  {line}"
    )


def _columns_meant(path: Path, overrides: Sequence[str]) -> list[str]:
    """Settings for columns that are called otherwise than expected, where there is little doubt."""
    columns = read_columns(path)
    named = {name: value for name, _, value in (option.partition("=") for option in overrides)}
    settings = []
    image = named.get("--data.image_column", "image")
    if image not in columns and "--data.image_column" not in named:
        images = [name for name, values in columns.items() if name not in _LABELS and _are_images(values)]
        if not images:
            return []
        image = images[0]
        settings = [f"--data.image_column={image}"]
    if not _has_labels(columns, named):
        others = [name for name in columns if name != image and name.lower() not in _NO_LABELS]
        answers = [name for name in others if _are_answers(columns[name])]
        if len(answers) == 1:
            settings.append(f"--data.label_columns=[{answers[0]}]")
    return settings


def _has_labels(columns: Mapping[str, object], named: Mapping[str, str]) -> bool:
    if "--data.label_columns" in named or "--model.head" in named:
        return True
    return any(named.get(f"--data.{name}_column", name) in columns for name in _LABELS)


def _are_images(values: Sequence[str]) -> bool:
    there = [value for value in values if value]
    return bool(there) and all(map(is_image_name, there))


def _are_answers(values: Sequence[str]) -> bool:
    """Whether a column can hold classes: values that come back, and no files."""
    there = [value for value in values if value]
    return len(set(there)) > 1 and len(set(there)) < len(there) and not any(map(is_image_name, there))
