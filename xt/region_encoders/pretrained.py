"""Pretrained weights of region encoders: where they lie on this machine, and whether they can be fetched at all.

What is here is loaded without asking a network. What is not, is asked for once and briefly before timm and the
Hugging Face hub begin, who would try for most of a minute.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from torch import nn

from xt.errors import ConfigError
from xt.region_encoders.hub import FILES, cached, closed, fetch, lacking, probe, repository_of
from xt.region_encoders.sources import Source

_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


def weights_for(source: Source, pretrained: bool | str) -> dict[str, Any]:
    """What timm is told about the weights beside `pretrained=True`: the file; nothing where it has to fetch them.

    Args:
        pretrained: True, or a file or folder that holds them.

    Raises:
        ConfigError: they are neither here nor to be had.
    """
    if isinstance(pretrained, str):
        return _as_file(_file_of(pretrained, "model.pretrained"))
    if source.repository is not None:
        return _as_file(cached(source.repository) or fetch(source.name, source.repository))
    if source.folder is not None:
        return _as_file(_file_of(str(source.folder), source.name))
    name = source.architecture
    found = cached_file(name)
    if found is not None:
        return _as_file(found)
    why = unreachable(name)
    if why is not None:
        raise ConfigError(lacking(name, why))
    return {}


def weights_file(source: Source, weights: dict[str, Any]) -> Path | None:
    """The file from which timm has loaded what it was told of; None if it is not known."""
    file = weights.get("pretrained_cfg_overlay", {}).get("file")
    return Path(file) if file is not None else cached_file(source.architecture)


def named_file(text: str, what: str) -> Path:
    """The file of weights that is named: a file, a folder that holds one, or hf-hub:OWNER/NAME.

    Args:
        what: says so, for messages.

    Raises:
        ConfigError: there is none, or it is not to be had.
    """
    repository = repository_of(text)
    if repository is not None:
        return cached(repository) or fetch(text, repository)
    path = text.removeprefix("local-dir:")
    if not Path(path).expanduser().exists():
        raise ConfigError(
            f"{what} {text!r}: expected a file or folder of weights, or hf-hub:OWNER/NAME; there is none"
        )
    return _file_of(path, what)


def cached_file(name: str) -> Path | None:
    """The file of a model's weights in the cache of the hub or of PyTorch; None if it is in neither."""
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None:
        return None
    if known.hf_hub_id:
        return cached(known.hf_hub_id, known.hf_hub_filename)
    if known.url and not known.custom_load:
        file_there = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(_address(known.url)).path).name
        return file_there if file_there.is_file() else None
    return None


def unreachable(name: str) -> str | None:
    """Why a model's weights cannot be fetched; None if they can, or if there are none anyway."""
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None or not (known.hf_hub_id or known.url):
        return None
    return closed() if known.hf_hub_id else probe(_address(known.url))


def loaded(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """What timm makes with its weights; not with those of another model, of which it takes what fits and leaves the
    rest random.

    Raises:
        ConfigError: most of the model was left as it was.
    """
    logger = logging.getLogger("timm.models._builder")
    seen = _Missing()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(seen)
    try:
        model = make()
    finally:
        logger.removeHandler(seen)
        logger.setLevel(level)
        logger.propagate = propagate
    if len(seen.names) > len(model.state_dict()) / 2:
        raise ConfigError(
            f"they lack {len(seen.names)} of the tensors of {name}, such as {seen.names[0]}: they are another model's"
        )
    return model


class _Missing(logging.Handler):
    """Collects what timm found no weights for, which it tells its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = re.match(r"Missing keys \(([^)]*)\)", record.getMessage())
        self.names += [] if found is None else found[1].split(", ")


def _address(url: str | tuple[str, str] | None) -> str:
    """Of timm's two ways to note one: alone, or with the name of the file."""
    return url[0] if isinstance(url, tuple) else url or ""


def _file_of(text: str, what: str) -> Path:
    """The one file of weights that a path means.

    Args:
        what: says so, for messages.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise ConfigError(
            f"{what} {text!r}: expected true, false, or a file or folder of weights; there is none"
        )
    for name in FILES:
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ConfigError(
            f"{path}: expected one file of weights ({', '.join(_SUFFIXES)}), found {found}; name the file"
        )
    return files[0]


def _as_file(path: Path) -> dict[str, Any]:
    # In the form that timm gives its models, not that of their authors.
    return {"pretrained_cfg_overlay": {"file": str(path), "custom_load": False, "source": ""}}
