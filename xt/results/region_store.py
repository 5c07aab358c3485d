"""What a running prediction has decoded so far, on disk, so that a killed one goes on where it was.

A folder, `DEST.partial`, that holds

    header.json  which model, image, grid and settings: what must be the same for the rest to fit
    places.npy   scale, row and column of the regions, where these are chosen (`RegionStore.places_path`)
    context.pt   the tokens behind the context encoder, once they are there (`RegionStore.context_path`)
    reached.json how far it got in the time that was given (`RegionStore.reached_path`), and
    seconds      what decoding has taken since, as 8 bytes, where that is counted
    band-*       what other processes decoded, until it is joined (`xt.prediction.bands`)
    regions.bin  what was decoded, one region batch after the other, in the grid's order
    journal      24 bytes a region batch: its number, where its bytes end in regions.bin, their checksum, and a
                 checksum of these three

A region batch counts once its line in the journal is whole and its bytes have their checksum. A process may therefore
be killed at any moment, or a machine lose its power, whatever of it has reached the disk: what is valid is a prefix,
and the rest is cut off when the folder is opened again. Files are written and read plainly, not mapped, so that what
lies on disk is not counted as memory.
"""

import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import OutputError
from xt.output import check_writable_folder, lock_folder, remove_leftovers, write_atomically

_FORMAT = "xt partial prediction 1"
_HEADER, _JOURNAL, _REGIONS, CONTEXT = "header.json", "journal", "regions.bin", "context.pt"
PLACES, REACHED, _SECONDS = "places.npy", "reached.json", "seconds"
_OURS = (_JOURNAL, _REGIONS, CONTEXT, PLACES, REACHED, _SECONDS)
# How the folders of bands begin (`xt.prediction.bands`).
BAND = "band-"
_ENTRY = struct.Struct("<QQI")
_CHECKED = struct.Struct("<I")
_SPENT = struct.Struct("<d")
_ENTRY_BYTES = _ENTRY.size + _CHECKED.size
_READ_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
# A killed process loses nothing that was written; a machine without power at most this.
_SECONDS_BETWEEN_SYNCS = 5.0


class RegionStore:
    """The decoded region batches of one image.

        with RegionStore("mask.tif.partial", header) as store:
            for number in range(store.num_batches, wanted):
                store.append(...)

    Args:
        folder: made if missing; nobody else can write to it while it is open.
        header: JSON values that identify the work; the keys are named to the user where they differ.
        restart: throw away what does not belong to this header instead of refusing.
        adopt: keys of the header that are taken from the folder where they differ, as a region batch that was chosen
            by the memory then free.
    Attributes:
        header: with what was adopted.
        num_batches: complete so far.
    Raises:
        OutputError: the folder holds another work, is in use, or cannot be written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        header: Mapping[str, Any],
        *,
        restart: bool = False,
        adopt: tuple[str, ...] = (),
    ) -> None:
        self.folder = Path(folder)
        self.header = dict(json.loads(json.dumps(header)))
        self._ends: list[int] = []
        self._data = self._journal = -1
        _check_ours(self.folder)
        check_writable_folder(self.folder)
        self._lock = lock_folder(self.folder, "predict")
        try:
            remove_leftovers(self.folder)
            self._begin(restart, adopt)
            self._open()
        except BaseException:
            self.close()
            raise
        self._synced_at = time.monotonic()

    @property
    def num_batches(self) -> int:
        return len(self._ends)

    @property
    def context_path(self) -> Path:
        """Where the tokens behind the context encoder are kept; whoever writes them does so atomically."""
        return self.folder / CONTEXT

    @property
    def places_path(self) -> Path:
        """Where chosen regions are kept, likewise; they are valid once the context is there."""
        return self.folder / PLACES

    @property
    def reached_path(self) -> Path:
        """Where is kept how far it got in the time that was given, likewise."""
        return self.folder / REACHED

    @property
    def seconds(self) -> float:
        """What was told to `spend`, all together, before a restart, too."""
        try:
            (seconds,) = _SPENT.unpack((self.folder / _SECONDS).read_bytes())
        except (OSError, struct.error):
            return 0.0
        return float(seconds)

    def spend(self, seconds: float) -> None:
        """Count the time that something took."""
        spent = _SPENT.pack(self.seconds + seconds)
        descriptor = os.open(self.folder / _SECONDS, _FLAGS, 0o666)
        try:
            # Over what was there, in one go: however it ends, there is a number.
            _write(descriptor, 0, spent)
        finally:
            os.close(descriptor)

    def append(self, values: NDArray[Any]) -> None:
        """Add the next region batch: it is there wholly, or after a restart not at all.

        Raises:
            OutputError: the disk is full; what was there before stays.
        """
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        number, end = self.num_batches, self._end + len(data)
        entry = _ENTRY.pack(number, end, zlib.crc32(data))
        try:
            _write(self._data, self._end, data)
            _write(self._journal, number * _ENTRY_BYTES, entry + _CHECKED.pack(zlib.crc32(entry)))
            if time.monotonic() - self._synced_at > _SECONDS_BETWEEN_SYNCS:
                self.sync()
        except OSError as error:
            self._cut()
            raise OutputError(
                f"Could not write to {self.folder}: {error.strerror}. What was done so far is kept there: make room "
                "and run the same again."
            ) from error
        self._ends.append(end)

    def require_room(self, wanted_bytes: int) -> None:
        """Refuse to begin what the disk has no room for, given all bytes that will be appended in the end.

        Raises:
            OutputError: says how much there is.
        """
        missing = wanted_bytes - self._end
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise OutputError(
                f"{self.folder} will take {missing / 1e9:.3g} GB until the prediction is done, but only "
                f"{free / 1e9:.3g} GB are free on its disk. Make room or write elsewhere."
            )

    def read(self, start: int, count: int) -> bytes:
        """Bytes of regions.bin.

        Raises:
            OutputError: they are not there.
        """
        data = _read(self._data, start, count)
        if len(data) != count:
            raise OutputError(
                f"{self.folder} ends too early at {start + len(data)} bytes; run with --restart"
            )
        return data

    def batch(self, number: int, dtype: Any) -> NDArray[Any]:
        """The values of one region batch, flat."""
        start = self._ends[number - 1] if number else 0
        return np.frombuffer(self.read(start, self._ends[number] - start), dtype=dtype)

    def sync(self) -> None:
        """Have the disk really hold what was appended."""
        os.fsync(self._data)
        os.fsync(self._journal)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        for descriptor in (self._data, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._journal = -1
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """The results are written: the folder is no longer needed."""
        self.close()
        # The header goes first: without it the folder is nothing to go on from, even if this is interrupted.
        (self.folder / _HEADER).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "RegionStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._ends and not self.context_path.exists():
            # Nothing to go on from.
            self.remove()
        self.close()

    @property
    def _end(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _begin(self, restart: bool, adopt: tuple[str, ...]) -> None:
        """Take up what is there if it is of the same work, or start anew."""
        earlier = read_header(self.folder)
        if earlier is not None and not restart:
            kept = {key: earlier[key] for key in adopt if key in earlier}
            differing = [
                key
                for key in {**self.header, **earlier}
                if self.header.get(key) != earlier.get(key) and key not in kept
            ]
            if differing:
                raise OutputError(
                    f"{self.folder} holds an unfinished prediction with another {' and another '.join(differing)}, "
                    "which cannot be continued. Go on with the same, write elsewhere, or begin anew with --restart."
                )
            self.header |= kept
            return
        for name in _OURS:
            (self.folder / name).unlink(missing_ok=True)
        for band in self.folder.glob(f"{BAND}*"):
            shutil.rmtree(band)
        write_atomically(
            self.folder / _HEADER,
            json.dumps({"format": _FORMAT, **self.header}, indent=1, ensure_ascii=False),
        )

    def _open(self) -> None:
        self._data = os.open(self.folder / _REGIONS, _FLAGS, 0o666)
        self._journal = os.open(self.folder / _JOURNAL, _FLAGS, 0o666)
        self._ends = _valid_ends(self._data, self._journal)
        self._cut()

    def _cut(self) -> None:
        """Forget what lies behind the last whole region batch."""
        for descriptor, size in ((self._data, self._end), (self._journal, self.num_batches * _ENTRY_BYTES)):
            os.ftruncate(descriptor, size)


def _valid_ends(data: int, journal: int) -> list[int]:
    """Where each region batch ends in the data, up to the first of which anything is not as it should be."""
    ends: list[int] = []
    entries = _read(journal, 0, os.fstat(journal).st_size)
    for number in range(len(entries) // _ENTRY_BYTES):
        entry = entries[number * _ENTRY_BYTES :][: _ENTRY.size]
        (checksum,) = _CHECKED.unpack_from(entries, number * _ENTRY_BYTES + _ENTRY.size)
        written, end, data_checksum = _ENTRY.unpack(entry)
        start = ends[-1] if ends else 0
        whole = checksum == zlib.crc32(entry) and written == number and end >= start
        if not whole or _checksum(data, start, end) != data_checksum:
            break
        ends.append(end)
    return ends


def _checksum(descriptor: int, start: int, end: int) -> int | None:
    """The crc32 of a file's bytes; None if it does not have them."""
    checksum = 0
    while start < end:
        part = _read(descriptor, start, min(_READ_BYTES, end - start))
        if not part:
            return None
        checksum = zlib.crc32(part, checksum)
        start += len(part)
    return checksum


def _read(descriptor: int, start: int, count: int) -> bytes:
    """Up to `count` bytes; fewer at the end of the file."""
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while count and (part := os.read(descriptor, count)):
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(descriptor: int, start: int, data: bytes | memoryview) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _check_ours(folder: Path) -> None:
    """A folder of this name that somebody else made is not to be written into.

    Raises:
        OutputError: it holds anything else.
    """
    ours = {_HEADER, *_OURS}
    if not folder.is_dir():
        return
    others = [
        path.name
        for path in folder.iterdir()
        if path.name not in ours and not path.name.startswith((".", BAND))
    ]
    if others:
        raise OutputError(
            f"{folder} is where the unfinished prediction goes, but it holds other files ({others[0]} ...). "
            "Move them away or choose another --out."
        )


def read_header(folder: Path) -> dict[str, Any] | None:
    """What the work in a folder is; None if there is none."""
    try:
        header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(header, dict) or header.pop("format", None) != _FORMAT:
        return None
    return header
