"""The Hugging Face hub, asked without timm and PyTorch, which take seconds to be loaded: what of it is here, and
whether it can be reached at all."""

import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, try_to_load_from_cache

from xt.errors import ConfigError

_SECONDS = 1.5
# As timm looks for them.
FILES = ("model.safetensors", "pytorch_model.bin")
# All weights of these, the recipes' families, timm keeps in repositories that are called as they are.
CALLED_ALIKE = ("convnext", "swinv2_")


def refuse_what_cannot_be_fetched(name: str) -> None:
    """Say at once that a region encoder's weights are neither here nor to be had, where its name tells where they lie.

    Of other names `pretrained.weights_for` says it, once timm is loaded.

    Raises:
        ConfigError: they are not in the hub's cache, and the hub cannot be reached.
    """
    if not name.startswith(CALLED_ALIKE) or "." not in name or cached(f"timm/{name}") is not None:
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
