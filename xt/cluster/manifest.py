"""`manifest.jsonl` in the folder of results: a line for each outcome, written the moment it is known."""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from xt.cluster.units import Outcome
from xt.errors import OutputError

MANIFEST = "manifest.jsonl"
_FORMAT = "xt manifest 1"


class Manifest:
    """What a run over many workers does, line by line; runs follow each other in one file.

    A run's first line says which checkpoint it is of. The others have `image`, `status` (done, cut, band done, failed),
    `worker`, `seconds`, of a failed one `reason`, and of an image that is done `result`, from which a run that was
    killed before its other records were written takes it up.

    Args:
        folder: of the results.
        checkpoint: sha256 of its file.
    Attributes:
        run: by which workers on other machines find out whether they see the same folder.
    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, checkpoint: str) -> None:
        self.path = folder / MANIFEST
        self.run = secrets.token_hex(8)
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise _explained(error, self.path) from error
        try:
            self._begin(checkpoint)
        except OutputError:
            self._close()
            raise

    def _begin(self, checkpoint: str) -> None:
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                # Half a line of a run that was killed.
                self._file.write(b"\n")
        # Workers on other machines look for this line.
        first = {"format": _FORMAT, "run": self.run, "checkpoint": checkpoint, "time": _now()}
        self._write(first, sync=True)

    def _close(self) -> None:
        # What a full disk did not take would be tried again, and its error would hide the one that tells more.
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def add(self, outcome: Outcome, result: Mapping[str, Any] | None = None) -> None:
        """Note an outcome.

        Args:
            result: of an image that is done, all that the folder's record has of it.
        Raises:
            OutputError: the disk is full.
        """
        unit = outcome.unit
        line: dict[str, Any] = {"image": unit.image, "status": _status(outcome)}
        if unit.band is not None:
            line["band"] = list(unit.band)
        if outcome.bands:
            line["bands"] = len(outcome.bands)
        if outcome.failure:
            line["reason"] = outcome.failure
        line |= {"worker": outcome.worker, "seconds": outcome.seconds, "time": _now()}
        if result is not None:
            line["result"] = result
        self._write(line)

    def _write(self, line: Mapping[str, Any], *, sync: bool = False) -> None:
        try:
            # In one piece, so that a killed run leaves whole lines and at most one half.
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise _explained(error, self.path) from error


def read_manifest(folder: Path, checkpoint: str) -> Iterator[dict[str, Any]]:
    """The lines of all runs of a checkpoint, in their order; damaged ones are left out."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return
    is_ours = False
    for line in content.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if not isinstance(values, dict):
            continue
        if values.get("format") == _FORMAT:
            is_ours = values.get("checkpoint") == checkpoint
        elif is_ours:
            yield values


def sees_run(folder: Path, run: str) -> bool:
    """Whether this machine sees the folder in which that run writes."""
    try:
        return run.encode() in (folder / MANIFEST).read_bytes()
    except OSError:
        return False


def _status(outcome: Outcome) -> str:
    if outcome.failure:
        return "failed"
    if outcome.bands:
        return "cut"
    return "done" if outcome.unit.band is None else "band done"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _explained(error: OSError, path: Path) -> OutputError:
    return OutputError(
        f"Could not write {path}: {error.strerror}. Make room or check permissions, and run again."
    )
