"""Where a network's weights are from, in values of JSON: saved with a model, shown by `xt info`."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xt.errors import DataWarning
from xt.region_encoders.hub import revision_of
from xt.region_encoders.sources import Source

_OF_WEIGHTS = ("file", "repository", "revision", "sha256")


def origin_of(source: Source, file: Path | None) -> dict[str, Any]:
    """Of weights that were loaded.

    Returns:
        `file` and `sha256` of the weights, with `repository` and `revision` where they are of the hub; and what makes
        the network again where its name alone does not, see `Source.description`.
    """
    return source.description | (of_file(file) if file is not None else {})


def warn_of_others(name: str, then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Say that other weights lie under a name than those of a run that is done again."""
    before, after = (then or {}).get("sha256"), now.get("sha256")
    if before and after and before != after:
        warnings.warn(
            f"{name} holds other weights than when this configuration was written: their sha256 is {after}, and was "
            f"{before}; name the revision to have the same, hf-hub:OWNER/NAME@REVISION",
            DataWarning,
            stacklevel=2,
        )


def of_file(file: Path) -> dict[str, Any]:
    """Of a file of weights."""
    # Names only: where it lies on this machine says nothing on another.
    origin: dict[str, Any] = {"file": file.name}
    place = revision_of(file)
    if place is not None:
        origin |= {"repository": place[0], "revision": place[1]}
    with open(file, "rb") as content:
        origin["sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
    return origin


def from_file(origin: Mapping[str, Any] | None, file: Path) -> dict[str, Any]:
    """With a file's weights in place of those that were there; what makes the network stays."""
    kept = {key: value for key, value in (origin or {}).items() if key not in _OF_WEIGHTS}
    return kept | of_file(file)


def in_words(origin: Mapping[str, Any]) -> str:
    """One line of it: file, repository, revision and the hash's beginning."""
    where = f" of {origin['repository']}" if "repository" in origin else ""
    revision = f", revision {origin['revision']}" if "revision" in origin else ""
    return f"{origin['file']}{where}{revision}, sha256 {origin['sha256']}"
