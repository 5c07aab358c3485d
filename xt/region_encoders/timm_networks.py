"""timm's networks made, with weights or without: as lists of feature maps, or whole."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import timm
import timm.layers
from huggingface_hub.errors import RepositoryNotFoundError
from torch import nn

from xt.errors import ConfigError, XTError
from xt.option_types import check_numbers
from xt.region_encoders.hub import advice, refused
from xt.region_encoders.pretrained import loaded
from xt.region_encoders.readout import LAST_MAP
from xt.region_encoders.sources import LARGEST_OPTION, Source
from xt.region_encoders.token_network import TokenNetwork, has_own_norm_or_class_token
from xt.region_encoders.without_memory import without_memory

_MOST_WORDS = 200
_NETWORK = ("httpx", "httpx2", "requests", "urllib3", "huggingface_hub")
# Of timm's options those that are classes and have no names there.
_CLASSES = ("mlp_layer",)


def create_network(
    source: Source,
    region_size: int,
    in_channels: int,
    options: Mapping[str, Any],
    readout: str = LAST_MAP,
    weights: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A timm network at a region size.

    Args:
        options: of timm, beyond those of the source.
        readout: what is to be read out: decides whether the network is kept whole.
        weights: what timm is told about them; None for none.

    Returns:
        A module of pixels -> a list of maps or `Found`; with `strides`.

    Raises:
        ConfigError: timm cannot make it so, or not with these weights.
    """
    check_numbers("encoder_options", options, LARGEST_OPTION)
    arguments: dict[str, Any] = {"in_chans": in_channels, "pretrained": weights is not None}
    arguments |= weights or {}
    arguments |= _with_classes({**source.arguments(), **options})
    try:
        whole = readout != LAST_MAP and has_own_norm_or_class_token(whole_model(source, options))
        with _quiet_downloads():
            if weights is None:
                return _made(source, region_size, arguments, whole)
            return loaded(source.name, lambda: _made(source, region_size, arguments, whole))
    except Exception as error:  # whatever an option that does not fit leads to
        raise _explain(error, source, region_size, arguments) from error


def whole_model(
    source: Source, options: Mapping[str, Any], region_size: int | None = None, in_channels: int = 3
) -> nn.Module:
    """timm's model of the name, asked for names and rules only: without memory for weights, where it can be, and then
    made once for all who ask.

    Args:
        region_size: that it is made for; None for its own.
    """
    arguments = _with_classes({**source.arguments(), **options, "in_chans": in_channels})
    arguments.pop("out_indices", None)
    make = partial(timm.create_model, source.architecture, **arguments)
    if region_size is not None:
        make = partial(_sized, source, region_size, arguments)
    key = repr((source.architecture, region_size, sorted(arguments.items())))
    try:
        return _without_memory(_Making(key, make))
    except (RuntimeError, NotImplementedError):
        # Some models compute with real values while they are made.
        return make()


@dataclass(frozen=True)
class _Making:
    """How a network is made; the same as another one by its key."""

    key: str
    make: Callable[[], nn.Module] = field(compare=False)


@lru_cache(maxsize=8)
def _without_memory(making: _Making) -> nn.Module:
    with without_memory():
        return making.make()


def _made(source: Source, region_size: int, arguments: Mapping[str, Any], whole: bool) -> nn.Module:
    if not whole:
        return _sized(source, region_size, {"features_only": True} | dict(arguments))
    given = dict(arguments)
    indices = given.pop("out_indices", None)
    return TokenNetwork(_sized(source, region_size, given | {"num_classes": 0}), indices)


def _sized(source: Source, region_size: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(source.architecture, img_size=region_size, **arguments)
    except TypeError:
        # Convolutional networks take any size and know no img_size.
        return timm.create_model(source.architecture, **arguments)


def _with_classes(options: Mapping[str, Any]) -> dict[str, Any]:
    """With timm's layers in place of their names."""
    given = dict(options)
    for name in _CLASSES:
        if isinstance(given.get(name), str):
            layer = getattr(timm.layers, given[name], None)
            # Some are classes with arguments set.
            kind = getattr(layer, "func", layer)
            if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
                raise ConfigError(f"{name}: timm.layers has no layer {given[name]!r}")
            given[name] = layer
    return given


@contextmanager
def _quiet_downloads() -> Iterator[None]:
    """Without a line for each of the attempts that are made where there is no network; the error says it once."""
    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_of_network(error: Exception) -> bool:
    # Which library fetches weights, and so what it raises, is up to the version of the Hugging Face hub.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in _NETWORK


def _explain(error: Exception, source: Source, region_size: int, arguments: Mapping[str, Any]) -> XTError:
    name = source.name
    file = arguments.get("pretrained_cfg_overlay", {}).get("file")
    if file is not None and _can_be_made(source, region_size, arguments):
        words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
        return ConfigError(
            f"{file} holds no weights of {name} that can be loaded; one that is damaged is fetched again when it is "
            f"deleted ({words})"
        )
    if arguments["pretrained"] and file is None and _is_of_network(error):
        known = timm.get_pretrained_cfg(source.architecture, allow_unregistered=True)
        if isinstance(error, RepositoryNotFoundError) and known is not None:
            return ConfigError(refused(f"the pretrained weights of {name}", known.hf_hub_id or "", error))
        return ConfigError(
            f"the pretrained weights of {name} are not on this machine and could not be downloaded: {advice()}"
        )
    return ConfigError(
        f"timm cannot make {name} with feature maps for regions of {region_size} pixels: {error}"
    )


def _can_be_made(source: Source, region_size: int, arguments: Mapping[str, Any]) -> bool:
    """Whether nothing but the weights is wrong."""
    try:
        _sized(source, region_size, {"features_only": True, **arguments, "pretrained": False})
    except Exception:
        return False
    return True
