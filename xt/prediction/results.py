"""The folder that `xt predict` writes to: what was done is known, so that a second run goes on where it ended."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from xt.errors import CheckpointError, OutputError
from xt.output import check_writable_folder, lock_folder, remove_leftovers, write_atomically
from xt.prediction.inputs import file_version, identity
from xt.prediction.writers import write_table

if TYPE_CHECKING:
    from xt.prediction.predictor import Prediction

TABLE = "predictions.csv"
RECORD = "predictions.json"
_FORMAT = "xt predictions 1"
# With many small images, writing the table anew after each would take longer than predicting.
_SECONDS_BETWEEN_WRITES = 1.0


class ResultFolder:
    """Results of one checkpoint: `predictions.csv`, and for each image a relevance map and an overlay.

    `predictions.json` records which version of each file was predicted and its row; the table is made from it. Both
    are replaced in one step, so that a killed run leaves valid files. While the folder is open no other run can write
    to it.

        with ResultFolder("results", checkpoint_sha256) as results:
            for path in paths:
                if not results.is_done(path): ...; results.add(path, prediction)

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
        self._written_at = 0.0
        self._changed = bool(self._images)

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

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    def map_path(self, image: str) -> Path:
        return self.folder / f"{self._stem(image)}.relevance.tif"

    def overlay_path(self, image: str) -> Path:
        return self.folder / f"{self._stem(image)}.overlay.png"

    def is_done(self, image: str, overlay: bool = True) -> bool:
        """Whether this very version of the image was predicted and its files are there."""
        entry = self._images.get(identity(image))
        return (
            entry is not None
            and entry["version"] == file_version(image)
            and self.map_path(image).exists()
            and (not overlay or self.overlay_path(image).exists())
        )

    def add(self, image: str, prediction: "Prediction", overlay: bool = True) -> None:
        """Record an image whose map and overlay are written; its row follows within a second or at the end."""
        row = {"image": image, "predicted": prediction.label}
        column = "value" if prediction.task == "regression" else "p"
        row |= {f"{column}({name})": f"{score:.6g}" for name, score in prediction.scores.items()}
        row["relevance"] = self.map_path(image).name
        row["overlay"] = self.overlay_path(image).name if overlay else ""
        self._images[identity(image)] = {
            "stem": self._stem(image),
            "version": file_version(image),
            "row": row,
        }
        self._changed = True
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Bring record and table up to date.

        Raises:
            OutputError: they could not be written; the older ones stay.
        """
        if not self._changed:
            return
        rows = [entry["row"] for entry in self._images.values()]
        record = {"format": _FORMAT, "checkpoint": self.checkpoint, "images": self._images}
        write_atomically(self.folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False))
        write_table(rows, list(rows[0]), self.table)
        self._changed = False
        self._written_at = time.monotonic()

    def _stem(self, image: str) -> str:
        """The image's own name; two images of one name (in two folders, or of two formats) get two stems."""
        key = identity(image)
        if key in self._images:
            return str(self._images[key]["stem"])
        stem = Path(image).stem or "image"
        # Some file systems do not tell upper from lower case.
        taken = {str(entry["stem"]).casefold() for entry in self._images.values()}
        return (
            stem if stem.casefold() not in taken else f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        )

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
            for suffix in (".relevance.tif", ".overlay.png"):
                (self.folder / f"{entry['stem']}{suffix}").unlink(missing_ok=True)
        (self.folder / TABLE).unlink(missing_ok=True)
        (self.folder / RECORD).unlink(missing_ok=True)


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
    return record if isinstance(record, dict) and record.get("format") == _FORMAT else None


def _unlock(lock: IO[bytes] | None) -> None:
    # Closing lets go of it, as does the end of the process, however it ends.
    if lock is not None:
        lock.close()
