"""The folder of corrections: a file for each image, and a table of the corrected ones to train on."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xt.images import LargeImage, stack_parts
from xt.images.names import is_there
from xt.prediction.inputs import identity, image_stem
from xt.results.colours import point_colours
from xt.results.writers import write_table
from xt.tasks import TASKS, Task
from xt.viewer.corrected_file import what_was_said
from xt.viewer.corrections import Begun, Corrections
from xt.viewer.layers import Filters

FOLDER, TABLE = "corrected", "corrected.csv"
_ENDING = ".geojson"
_TO_TRAIN_ON = ("accepted", "corrected")
_Version = tuple[int, int]


class CorrectedFolder:
    """Corrections of several images; made on disk when something is first corrected.

    Args:
        folder: where they lie.
        task: that the table is for; None where nobody knows, and what is drawn decides.
        class_names: those that are known.
        split: to which part an image belongs, for the table; "" where nobody knows.
    """

    def __init__(
        self,
        folder: str | Path,
        task: Task | None,
        class_names: Sequence[str] = (),
        split: Callable[[str], str] = lambda image: "",
    ) -> None:
        self.folder = Path(folder)
        self.task = task
        self.class_names = tuple(class_names)
        self._split = split
        self._said: dict[Path, tuple[_Version, dict[str, Any]]] = {}
        self._rows: list[dict[str, str]] | None = None
        self._lock = threading.Lock()

    @property
    def table(self) -> Path:
        """Of the corrected images; see `rows`."""
        return self.folder / TABLE

    def of(self, image: str, opened: LargeImage, begin: Callable[[Filters], Begun]) -> Corrections:
        """The corrections of an image.

        Args:
            image: its path, or what it is called.
            begin: see `Corrections`.
        """
        return Corrections(
            self.path(image),
            opened,
            "" if self.task is None else self.task.drawn_as,
            self.class_names,
            colours=point_colours if self.task is None else self.task.colours,
            begin=begin,
            source=self._source(image),
            saved=self.write_table,
        )

    def path(self, image: str) -> Path:
        """The file of an image: by its name, or, where another one is called so, also by where it lies."""
        stem = image_stem(image)
        plain = self.folder / f"{stem}{_ENDING}"
        said = self.said_in(plain).get("image")
        if not said or said == self._source(image):
            return plain
        mark = hashlib.sha256(identity(image).encode()).hexdigest()[:8]
        return self.folder / f"{stem}-{mark}{_ENDING}"

    def said(self, image: str) -> dict[str, Any]:
        """What a person said of the whole image: "state", "label"; empty where nobody did."""
        return self.said_in(self.path(image))

    def said_in(self, path: Path) -> dict[str, Any]:
        """Likewise, of a file; read again only where it has changed."""
        try:
            found = os.stat(path)
        except OSError:
            return {}
        version = found.st_mtime_ns, found.st_size
        with self._lock:
            known = self._said.get(path)
        if known is None or known[0] != version:
            known = version, what_was_said(path)
            with self._lock:
                self._said[path] = known
        return known[1]

    def rows(self) -> list[dict[str, str]]:
        """Of the table: the images that were accepted or corrected, by name, with their labels in the form that
        `xt train` reads."""
        rows = []
        for path in sorted(self.folder.glob(f"*{_ENDING}")):
            said = self.said_in(path)
            if said.get("state") not in _TO_TRAIN_ON or not said.get("image"):
                continue
            row = {"image": str(said["image"]), **self._label(path, said)}
            split = self._split(self._path_of(row["image"]))
            rows.append(row | ({"split": split} if split else {}))
        return rows

    def write_table(self) -> None:
        """Bring the table up to date, if an image is new in it or its label is another.

        Raises:
            OutputError: it could not be written; the older one stays.
        """
        rows = self.rows()
        with self._lock:
            if rows == self._rows and self.table.exists():
                return
            columns = list(dict.fromkeys(name for row in rows for name in row)) or ["image"]
            write_table(rows, columns, self.table)
            self._rows = rows

    def _label(self, path: Path, said: dict[str, Any]) -> dict[str, str]:
        if self.task is not None and not self.task.drawn_as:
            return {"label": str(said.get("label", ""))}
        serving = [self.task] if self.task is not None else TASKS.values()
        kind = said.get("kind") or (self.task.drawn_as if self.task is not None else "")
        column = next((task.columns[-1] for task in serving if task.drawn_as == kind), "points")
        between = {"unlabelled": str(said["unlabelled"])} if said.get("unlabelled") else {}
        return {column: path.name, **between}

    def _source(self, image: str) -> str:
        """An image's path as the table has it: from the folder, so that both can be moved together."""
        parts = [
            os.path.relpath(Path(part).resolve(), self.folder.resolve())
            if is_there(part) and Path(part).exists()
            else part
            for part in stack_parts(image)
        ]
        return "|".join(part.replace(os.sep, "/") for part in parts)

    def _path_of(self, source: str) -> str:
        return "|".join(
            str((self.folder / part).resolve()) if (self.folder / part).exists() else part
            for part in stack_parts(source)
        )
