"""The Hugging Face hub, asked without timm and PyTorch, which take seconds to be loaded: what of it is here, and
whether it can be reached at all."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import _CACHED_NO_EXIST, constants, get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from xt.errors import ConfigError

_SECONDS = 1.5
_MOST_WORDS = 200
# As timm looks for them.
FILES = ("model.safetensors", "pytorch_model.bin")
TRANSFORMERS = "transformers:"
"""What names of networks of the transformers library begin with."""
_PREFIXES = ("hf-hub:", "hf_hub:")
# All weights of these, the recipes' families, timm keeps in repositories that are called as they are.
CALLED_ALIKE = ("convnext", "swinv2_")


def refuse_what_cannot_be_fetched(name: str) -> None:
    """Say at once that a region encoder's weights are neither here nor to be had, where its name tells where they lie.

    Of other names `pretrained.weights_for` says it, once timm is loaded.

    Raises:
        ConfigError: they are not in the hub's cache, and the hub cannot be reached.
    """
    repository = repository_of(name)
    if name.startswith(TRANSFORMERS):
        repository = repository_in(name.removeprefix(TRANSFORMERS))
    if repository is None:
        if not name.startswith(CALLED_ALIKE) or "." not in name:
            return
        repository = f"timm/{name}"
    if cached(repository) is not None:
        return
    why = closed()
    if why is not None:
        raise ConfigError(lacking(name, why))


def cached(repository: str, filename: str | None = None) -> Path | None:
    """The file of weights of a repository ("timm/NAME" or "timm/NAME@REVISION") in the hub's cache."""
    repository, _, revision = repository.partition("@")
    for file in (filename,) if filename else FILES:
        found = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def repository_of(name: str) -> str | None:
    """ "owner/name" or "owner/name@revision" of "hf-hub:owner/name"; None for other names."""
    for prefix in _PREFIXES:
        if name.lower().startswith(prefix):
            return name[len(prefix) :]
    return None


def repository_in(place: str) -> str | None:
    """What stands behind "transformers:", if it is a repository, "owner/name", and no folder."""
    is_path = place.startswith((".", "~", "/")) or Path(place).is_dir() or place.count("/") != 1
    return None if is_path else place


def known_to_be_missing(repository: str, filename: str) -> bool:
    """Whether the hub has said that a repository has no such file."""
    owner_and_name, _, revision = repository.partition("@")
    return try_to_load_from_cache(owner_and_name, filename, revision=revision or None) is _CACHED_NO_EXIST


def revision_of(file: Path) -> tuple[str, str] | None:
    """Repository and revision of a file in the hub's cache; None of others."""
    for folder in file.parents:
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.parent.parent.name.removeprefix("models--").replace("--", "/"), folder.name
    return None


def fetch(name: str, repository: str, filenames: Sequence[str] = FILES) -> Path:
    """The first of some files that a repository has, downloaded into the hub's cache.

    Args:
        name: of the region encoder, for messages.

    Raises:
        ConfigError: the hub cannot be reached, has no such repository or file, or gives it only to others.
    """
    why = closed()
    if why is not None:
        raise ConfigError(lacking(name, why))
    owner_and_name, _, revision = repository.partition("@")
    for filename in filenames:
        try:
            found = hf_hub_download(
                owner_and_name, filename, revision=revision or None, endpoint=constants.ENDPOINT
            )
        except LocalEntryNotFoundError as error:
            raise ConfigError(lacking(name, f"{_host()} broke off")) from error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise ConfigError(refused(name, repository, error)) from error
        return Path(found)
    raise ConfigError(f"{name}: {repository} on {_host()} has none of the files {', '.join(filenames)}")


def refused(name: str, repository: str, error: Exception) -> str:
    """Why the hub does not give a file, and what to do."""
    owner_and_name = repository.partition("@")[0]
    if isinstance(error, GatedRepoError):
        step = "run `hf auth login`" if get_token() is None else "wait until they have answered"
        return (
            f"{name} is given only to those whom its owners let in: ask them on "
            f"{constants.ENDPOINT}/{owner_and_name}, then {step}"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name}: {owner_and_name} on {_host()} has no revision {repository.partition('@')[2]!r}"
    if isinstance(error, RepositoryNotFoundError):
        step = ", or it is private and `hf auth login` opens it" if get_token() is None else ""
        return f"{name}: there is no repository {owner_and_name} on {_host()}{step}"
    words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
    return f"{name} could not be fetched from {_host()} ({words})"


def closed() -> str | None:
    """Why nothing can be fetched from the hub; None if it can."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, so that they are not fetched"
    return probe(constants.ENDPOINT)


def lacking(name: str, why: str) -> str:
    """That the weights of a region encoder cannot be had, and what to do."""
    return f"the pretrained weights of {name} are not on this machine, and {why}: {advice()}"


def probe(url: str) -> str | None:
    """Why a host does not answer, said within two seconds; None if it answers, whatever it says.

    On a slow network HF_HUB_ETAG_TIMEOUT, the hub's own setting, says how many seconds to wait.
    """
    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _SECONDS)
    host = urlsplit(url).netloc
    answers: list[str | None] = []
    # In a thread, as no timeout ends the search for a host's address.
    asking = threading.Thread(target=lambda: answers.append(_ask(url, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    if not answers:
        return f"{host} did not answer within {seconds:g} s (HF_HUB_ETAG_TIMEOUT=30 waits longer)"
    return None if answers[0] is None else f"{host} cannot be reached ({answers[0]})"


def advice() -> str:
    """What to do about weights that cannot be had."""
    return (
        "connect it to a network once; or copy the hub's cache folder from a machine that has them and name it in "
        f"HF_HUB_CACHE (here: {constants.HF_HUB_CACHE}); or give a file or folder of them, --model.pretrained=FOLDER; "
        "or start without them, --model.pretrained=false"
    )


def _host() -> str:
    return urlsplit(constants.ENDPOINT).netloc


def _ask(url: str, seconds: float) -> str | None:
    try:
        # Through the proxy that the environment names, as the hub does.
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        # A certificate that only this module does not know is the hub's to judge.
        return None if "CERTIFICATE" in str(error.reason).upper() else str(error.reason)
    except OSError as error:
        return str(error)
    return None
