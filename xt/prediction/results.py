"""The folder that `xt predict` writes to: what was done is known, so that a second run goes on where it ended."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from xt.errors import CheckpointError, OutputError
from xt.images import stack_parts
from xt.output import check_writable_folder, lock_folder, remove_leftovers, write_atomically
from xt.prediction.inputs import file_version, identity, image_stem
from xt.results.writers import write_table
from xt.tasks.csv_rows import as_now

TABLE = "predictions.csv"
RECORD = "predictions.json"
_FORMAT = "xt predictions 1"
# With many small images, writing the table anew after each would take longer than predicting.
_SECONDS_BETWEEN_WRITES = 1.0
_SHARE_OF_WRITES = 20
# Of records that do not name the files.
_FIRST_FILES = (".relevance.tif", ".overlay.png")
_SIDE_FILES = (".mask.tif.aux.xml",)
# What the command line writes of all images together, and would else tell of results that are not there any more.
TOGETHER = (
    "manifest.jsonl",
    "detections.json",
    "detections.images.json",
    "xview3.csv",
    "embeddings.parquet",
    "embeddings.h5ad",
)


class ResultFolder:
    """Results of one checkpoint: `predictions.csv` with a row an image, and the files that belong to each image.

    `predictions.json` records which version of each file was predicted, its row and its files; the table is made from
    it. Both are replaced in one step, so that a killed run leaves valid files. While the folder is open no other run
    can write to it.

        with ResultFolder("results", checkpoint_sha256) as results:
            for path in paths:
                if not results.is_done(path):
                    ...  # writes results.path(path, ".mask.tif")
                    results.add(path, {"mask": ".mask.tif"}, {"water": 0.7})

    Args:
        checkpoint: sha256 of the checkpoint's file.
        overwrite: throw away the results of another checkpoint instead of refusing.
    Raises:
        OutputError: the folder cannot be written to, holds results of another checkpoint, or another run has it.
    """

    def __init__(self, folder: str | os.PathLike[str], checkpoint: str, overwrite: bool = False) -> None:
        self.folder = check_writable_folder(folder)
        self.checkpoint = checkpoint
        self._lock = lock_folder(self.folder, "predict")
        try:
            remove_leftovers(self.folder)
            self._images = self._earlier(overwrite)
        except BaseException:
            _unlock(self._lock)
            raise
        self._written_at = self._seconds_of_write = 0.0
        self._changed = bool(self._images)
        self._reserved: dict[str, str] = {}
        # Some file systems do not tell upper from lower case.
        self._taken = {str(entry["stem"]).casefold() for entry in self._images.values()}

    def __enter__(self) -> "ResultFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.write()
        except OutputError:
            # The first error tells more: on a full disk it was probably the same.
            if error is None:
                raise
        finally:
            _unlock(self._lock)

    def __len__(self) -> int:
        return len(self._images)

    def reserve(self, images: Iterable[str]) -> None:
        """Give all images of a run their names and their order in the table, in whichever order they will be done."""
        for image in images:
            if identity(image) not in self._images:
                self._reserved[identity(image)] = stem = self._stem(image)
                self._taken.add(stem.casefold())

    def entry(self, image: str) -> dict[str, Any] | None:
        """All that the record has of an image, as JSON values; for `restore`."""
        return self._images.get(identity(image))

    def restore(self, image: str, entry: Mapping[str, Any]) -> None:
        """Take up what another record has of an image, if this one has nothing."""
        if self.entry(image) is None:
            self._images[identity(image)] = dict(entry)
            self._taken.add(str(entry["stem"]).casefold())
            self._changed = True

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    @property
    def images(self) -> list[str]:
        """Those that were predicted, now or in an earlier run, as they were named."""
        return [row["image"] for row in self.rows]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of the table, in its order: of earlier runs, then of this one as its images were given."""
        return [entry["row"] for entry in self._ordered.values()]

    @property
    def _ordered(self) -> dict[str, dict[str, Any]]:
        order = {key: number for number, key in enumerate(self._reserved)}
        return {key: self._images[key] for key in sorted(self._images, key=lambda key: order.get(key, -1))}

    def path(self, image: str, ending: str) -> Path:
        """An image's file of this kind, as ".mask.tif", or in a folder of such, as "embeddings/.h5"."""
        return placed(self.folder, self._stem(image), ending)

    def is_done(
        self, image: str, endings: Collection[str] = (), settings: Mapping[str, object] | None = None
    ) -> bool:
        """Whether this very version of the image was predicted with these settings and all its files are there.

        Args:
            endings: of files that are wanted, besides those that were written.
        """
        entry = self._images.get(identity(image))
        if entry is None or entry["version"] != _version(image):
            return False
        if entry.get("settings", {}) != json.loads(json.dumps(settings or {})):
            return False
        written = entry.get("files", _FIRST_FILES)
        return set(endings) <= set(written) and all(self.path(image, ending).exists() for ending in written)

    def add(
        self,
        image: str,
        files: Mapping[str, str],
        values: Mapping[str, object],
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Record an image whose files are written; its row follows within a second or at the end.

        Args:
            files: column -> ending of a file of the image.
            values: the other columns.
            settings: JSON values; a run with others predicts the image again.
        """
        row = {"image": image, **values} | {
            column: self.path(image, ending).relative_to(self.folder).as_posix()
            for column, ending in files.items()
        }
        self._images[identity(image)] = {
            "stem": self._stem(image),
            "version": _version(image),
            "files": list(files.values()),
            "settings": dict(settings or {}),
            "row": row,
        }
        self._changed = True
        self._taken.add(self._stem(image).casefold())
        # Of tens of thousands of images the record takes seconds.
        pause = max(_SECONDS_BETWEEN_WRITES, _SHARE_OF_WRITES * self._seconds_of_write)
        if time.monotonic() - self._written_at > pause:
            self.write()

    def write(self) -> None:
        """Bring record and table up to date.

        Raises:
            OutputError: they could not be written; the older ones stay.
        """
        if not self._changed:
            return
        started = time.monotonic()
        rows = self.rows
        record = {"format": _FORMAT, "checkpoint": self.checkpoint, "images": self._ordered}
        write_atomically(self.folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False))
        # Runs with other settings may have written other files: a row has what there is.
        write_table(rows, list(dict.fromkeys(column for row in rows for column in row)), self.table)
        self._changed = False
        self._written_at = time.monotonic()
        self._seconds_of_write = self._written_at - started

    def _stem(self, image: str) -> str:
        """The image's own name; two images of one name (in two folders, or of two formats) get two stems."""
        key = identity(image)
        if key in self._images:
            return str(self._images[key]["stem"])
        if key in self._reserved:
            return self._reserved[key]
        stem = image_stem(image)
        is_taken = stem.casefold() in self._taken
        return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}" if is_taken else stem

    def _earlier(self, overwrite: bool) -> dict[str, dict[str, Any]]:
        path = self.folder / RECORD
        if not path.exists():
            return {}
        record = _read_record(path)
        if record is not None and record["checkpoint"] == self.checkpoint:
            return dict(record["images"])
        if not overwrite:
            whose = "of another checkpoint" if record is not None else "that cannot be read"
            raise OutputError(
                f"{self.folder} holds results {whose}, which must not be mixed with new ones. "
                "Choose another folder with --out, or replace them with --overwrite."
            )
        self._discard(record)
        return {}

    def _discard(self, record: Mapping[str, Any] | None) -> None:
        for entry in (record or {"images": {}})["images"].values():
            for suffix in (*entry.get("files", _FIRST_FILES), *_SIDE_FILES):
                _remove(placed(self.folder, entry["stem"], suffix))
        # The record last: of a discarding that was cut short it still tells.
        for name in (*TOGETHER, TABLE, RECORD):
            (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """What a folder of results has of one image.

    Attributes:
        image: as it was named when it was predicted; of several that have one answer, the name of the case.
        images: the paths of these, else that of the image alone.
        row: of the table.
        settings: that were chosen for it, as `PredictConfig.of_results` has them.
        files: by their endings, those that are there.
    """

    image: str
    images: tuple[str, ...]
    row: Mapping[str, Any]
    settings: Mapping[str, Any]
    files: Mapping[str, Path]


def read_results(folder: str | os.PathLike[str]) -> list[FoundImage]:
    """What was predicted into a folder, in the order of its table; nobody is kept from writing to it meanwhile.

    Raises:
        OutputError: the folder holds no results of `xt predict`.
    """
    folder = Path(folder)
    record = _read_record(folder / RECORD)
    if record is None:
        raise OutputError(f"{folder} holds no results of xt predict: it has no {RECORD} that can be read")
    found = []
    for entry in record["images"].values():
        paths = {ending: placed(folder, entry["stem"], ending) for ending in entry.get("files", _FIRST_FILES)}
        there = {ending: path for ending, path in paths.items() if path.exists()}
        name = entry["row"]["image"]
        settings = entry.get("settings", {})
        case = settings.get("case")
        images = (name,) if case is None else tuple(path for path, _ in case)
        found.append(FoundImage(image=name, images=images, row=entry["row"], settings=settings, files=there))
    return found


def placed(folder: Path, stem: str, ending: str) -> Path:
    """The file of an image that is called so, in the folder or one below that the ending names."""
    below, _, last = ending.rpartition("/")
    return folder / below / f"{stem}{last}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a checkpoint's file, in hexadecimal.

    Raises:
        CheckpointError: there is no such file or it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; `xt train` writes them") from error
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror}") from error


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        return None
    for entry in record["images"].values():
        entry["row"] = as_now(entry["row"])
    return record


def _version(image: str) -> list[list[int] | None]:
    return [file_version(part) for part in stack_parts(image)]


def _remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unlock(lock: IO[bytes] | None) -> None:
    # Closing lets go of it, as does the end of the process, however it ends.
    if lock is not None:
        lock.close()
