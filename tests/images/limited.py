"""Reading files in a process of its own with a limit on time and memory, so that one that hangs, crashes or eats the
memory is a result like another."""

import multiprocessing
import os
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# More than any of the small files needs; the limit on time is for a busy machine.
MEMORY_BYTES = 2 * 2**30
SECONDS = 30.0
_SECONDS_TO_START = 240.0
_FINE = "fine"


class LimitedReader:
    """Opens and reads image files, one after the other, in another process, which is started anew where it was lost."""

    def __enter__(self) -> "LimitedReader":
        self._process: Any = None
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def wrong_answer(self, path: Path) -> str | None:
        """What is wrong with how the file is met; None for pixels or one of our errors that names it."""
        if self._process is None:
            self._start()
        self._connection.send(str(path))
        if not self._connection.poll(SECONDS):
            self._stop()
            return f"hangs: no answer in {SECONDS:g} seconds"
        try:
            answer: str = self._connection.recv()
        except EOFError:
            code = self._process.exitcode
            self._stop()
            return f"ends the process (exit code {code})"
        return None if answer == _FINE else answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._connection.poll(_SECONDS_TO_START), "the process to read in does not start"
        self._connection.recv()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _serve(connection: Connection) -> None:
    import resource

    import xt.images.ome_tiff
    import xt.images.ome_zarr
    import xt.images.raster
    import xt.images.slide  # noqa: F401

    # What GDAL prints about each file is in our errors, too.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    warnings.simplefilter("ignore")
    connection.send("ready")
    while True:
        try:
            path = connection.recv()
        except EOFError:
            return
        connection.send(_answer(path))


def _answer(path: str) -> str:
    from xt.errors import XTError

    try:
        _look_at(path)
    except XTError as error:
        return (
            _FINE
            if Path(path).name in str(error)
            else f"does not name the file: {type(error).__name__}: {error}"
        )
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    return _FINE


def _look_at(path: str) -> None:
    """What is done with an image: its properties, and windows of all its levels."""
    import xt

    with xt.open_image(path) as image:
        _ = image.shape, image.channels, image.dtype, image.levels, image.microns_per_pixel, image.location
        for level, step in enumerate(image.levels):
            height, width = (max(1, int(side / step)) for side in image.shape)
            image.read(0, 0, 32, 32, level)
            image.read_valid(height // 2, width // 2, 32, 32, level)
            image.read(height - 16, width - 16, 32, 32, level)
