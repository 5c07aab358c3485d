"""What was found out about files before, so that those that did not change need not be looked at again."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import xt
from xt.checking.image_facts import ImageFacts, Job, Looking
from xt.images import stack_parts
from xt.output import write_atomically
from xt.prediction.inputs import file_version

# What else GDAL reads of an image.
_BESIDE = (".msk", ".aux.xml", ".ovr")
_FORMAT = f"xt check 2, {xt.__version__}"


class Journal:
    """A file of facts, a line an image, written as they become known.

    It helps and is never in the way: where it cannot be read or written, everything is looked at.

    Args:
        path: of the file; None for none.
        fresh: whether to forget what it holds.
    """

    def __init__(self, path: Path | None, *, fresh: bool = False) -> None:
        self.path = path
        self._known = {} if path is None or fresh else dict(_read(path))
        self._current: dict[str, str] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> "Journal":
        if self.path is not None:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None or self.path is None:
            return
        with suppress(OSError):
            self._file.close()
            if kind is None:
                # What is about other files, or older states of them, goes.
                write_atomically(self.path, "".join(self._current.values()))

    def known(self, job: Job, how: Looking) -> ImageFacts | None:
        """What was found out before about the same files, read in the same way."""
        key = _key(job, how)
        facts = None if key is None else self._known.get(key)
        if facts is None or key is None:
            return None
        facts = replace(facts, row=job.row)
        self._current[key] = _line(key, facts)
        return facts

    def add(self, job: Job, how: Looking, facts: ImageFacts) -> None:
        """Note what was found out."""
        key = _key(job, how)
        if key is None:
            return
        self._current[key] = _line(key, facts)
        if self._file is not None:
            with suppress(OSError):
                self._file.write(self._current[key])
                self._file.flush()


def usual_journal(source: str) -> Path:
    """Where the journal of a table or folder lies: in the user's folder for caches."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = os.path.abspath(source)
    name = f"{Path(source).stem[:60]}-{hashlib.sha256(place.encode()).hexdigest()[:12]}.jsonl"
    return Path(cache) / "xt" / "check" / name


def _key(job: Job, how: Looking) -> str | None:
    """The same only for the same files in the same state; None where that cannot be known."""
    files = stack_parts(str(job.path))
    if job.target is not None:
        if job.target.path is None:
            return None
        files = [*files, *stack_parts(str(job.target.path))]
    versions = [(os.path.abspath(file), _version(file)) for file in files]
    if any(version is None for _, version in versions):
        return None
    settings = (how.settings, how.class_names, how.ignore_index, how.classes_assumed)
    everything = json.dumps([_FORMAT, versions, settings, job.microns_per_pixel])
    return hashlib.blake2b(everything.encode(), digest_size=16).hexdigest()


def _version(file: str) -> list[object] | None:
    # A folder's own time says nothing of the files inside.
    if not os.path.isfile(file):
        return None
    return [file_version(file), *(file_version(file + ending) for ending in _BESIDE)]


def _line(key: str, facts: ImageFacts) -> str:
    return json.dumps({"key": key, "facts": facts.as_dict()}, ensure_ascii=False) + "\n"


def _read(path: Path) -> Iterator[tuple[str, ImageFacts]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        # The last of a run that was killed may be half a line.
        with suppress(ValueError, KeyError, TypeError):
            values = json.loads(line)
            yield values["key"], ImageFacts.from_dict(values["facts"])
