"""`hf://OWNER/NAME@REVISION`: a model on the hub, wherever a run or a file of a model is asked for.

Only files that are named here are fetched, safetensors and text; nothing in them is executed.
"""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt.errors import CheckpointError, DataWarning

WEIGHTS, CONFIGURATION, METRICS, DATA, CARD = (
    "model.safetensors", "config.yaml", "metrics.json", "data.json", "README.md",
)  # fmt: skip
FETCHED = (WEIGHTS, CONFIGURATION, METRICS, DATA)
"""What of a repository comes to this machine; the card is for readers."""
# Of a `Path`, too, which takes two slashes for one.
_PLACE = re.compile(r"hf:/{1,2}(?P<place>.*)")
_REPOSITORY = re.compile(r"(?P<repository>[^/@\s]+/[^/@\s]+?)/?(?:@(?P<revision>\S+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPlace:
    """Where on the hub.

    Attributes:
        repository: "owner/name".
        revision: a branch, a tag or a commit; None for the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + ("" if self.revision is None else f"@{self.revision}")

    @property
    def is_pinned(self) -> bool:
        """Whether it means the same files for ever."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def place_of(model: str | os.PathLike[str]) -> HubPlace | None:
    """The place that a text means; None where it is a path of this machine.

    Raises:
        CheckpointError: it begins with "hf://" and names no repository.
    """
    found = _PLACE.fullmatch(os.fspath(model))
    if found is None:
        return None
    place = _REPOSITORY.fullmatch(found["place"])
    if place is None:
        raise CheckpointError(
            f"a model on the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION, got {os.fspath(model)}"
        )
    return HubPlace(place["repository"], place["revision"])


def local_path(model: str | os.PathLike[str]) -> Path:
    """The folder that a model's files lie in on this machine, fetched if need be; another path as it is.

    Without a network what was fetched before is taken.

    Raises:
        CheckpointError: there is no such repository or revision, it holds no model of ours, or is given only to others;
            or nothing was fetched before and the hub cannot be reached.
    """
    place = place_of(model)
    if place is None:
        return Path(model)
    # The hub's library is loaded only by whoever means it.
    from xt.region_encoders import hub

    here = _fetched_before(place)
    if here is not None and place.is_pinned:
        return here
    why = hub.closed()
    if why is None:
        return _fetch(place)
    if here is None:
        raise CheckpointError(f"{place} was not fetched before, or not all of it, and {why}")
    pinned = hub.revision_of(here / WEIGHTS)
    revision = "" if pinned is None else f", revision {pinned[1]}"
    warnings.warn(f"{place} is taken as it was fetched before{revision}, as {why}", DataWarning, stacklevel=2)
    return here


def pinned(file: str | os.PathLike[str]) -> HubPlace | None:
    """Where on the hub a file that was fetched is from, its commit with it; None of other files."""
    from xt.region_encoders import hub

    found = hub.revision_of(Path(file))
    return None if found is None else HubPlace(*found)


def _fetched_before(place: HubPlace) -> Path | None:
    """The folder of what was fetched, if all of it was."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            place.repository, revision=place.revision, allow_patterns=list(FETCHED), local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder) if (Path(folder) / WEIGHTS).is_file() else None


def _fetch(place: HubPlace) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import tqdm

    from xt.region_encoders import hub

    class Bar(tqdm):
        """Drawn where somebody looks."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "disable": settings.get("disable") or None})

    named = place.repository + ("" if place.revision is None else f"@{place.revision}")
    try:
        told = HfApi(endpoint=constants.ENDPOINT).model_info(place.repository, revision=place.revision)
        if not any(file.rfilename == WEIGHTS for file in told.siblings or ()):
            raise CheckpointError(
                f"{place} holds no model of xt: it has no {WEIGHTS}, which `xt push` and XT.push_to_hub write"
            )
        folder = snapshot_download(
            place.repository,
            revision=place.revision,
            allow_patterns=list(FETCHED),
            endpoint=constants.ENDPOINT,
            tqdm_class=Bar,
        )
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        raise CheckpointError(
            hub.refused(str(place), named, cause if isinstance(cause, Exception) else error)
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(hub.refused(str(place), named, error)) from error
    return Path(folder)
