"""Images and labels where a configuration was expected: which recipe fits them, and the line to type."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from xt.checking.assumptions import assume
from xt.checking.columns import LABELS, Meant, columns_meant
from xt.data.table_files import read_columns
from xt.images.suffixes import is_image_name

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
    assumed = assume(source, overrides)
    if assumed.task is None and path.is_dir():
        return f"{source} is no configuration, and has {assumed.told[0]}"
    if assumed.task is None:
        return _unsure(source, columns_meant(path, overrides), command)
    return _told(
        source, "; ".join(assumed.told) or assumed.task, assumed.train.replace("xt train", f"xt {command}", 1)
    )


def _unsure(source: str, meant: Meant, command: str) -> str:
    """Of a table whose columns do not say themselves what they are for."""
    columns = read_columns(Path(source))
    told = f"{source} is no configuration, and has no column {', '.join(LABELS)}; its columns are {', '.join(columns)}."
    options = [f"--data.table {shlex.quote(source)}"]
    asked = "Name the one of the answers"
    if meant.images is None:
        asked = "None holds names of image files with their suffixes: name the one that does, and that of the answers"
        options.append("--data.image_column COLUMN")
    options += [shlex.join(setting.split("=", 1)) for setting in meant.settings]
    choice = f" ({' or '.join(meant.candidates)})" if meant.candidates else ""
    return f"{told} {asked}{choice}:\n  xt {command} classification {' '.join(options)} --labels.label_columns COLUMN"


def _told(source: str, why: str, line: str) -> str:
    return (
        f"{source} says which images there are, not how to train: a recipe or a configuration is missing before it. "
        f"By what is in it ({why}), this one fits:\n  {line}"
    )
