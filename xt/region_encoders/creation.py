"""Region encoders by name, or around a module that is given."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from xt.errors import ConfigError
from xt.region_encoders import features
from xt.region_encoders.bands import Bands
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.hub import TRANSFORMERS
from xt.region_encoders.module import ModuleEncoder
from xt.region_encoders.pretrained import weights_for
from xt.region_encoders.sources import source_of
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.transformers import TransformersEncoder, whole_model_in
from xt.region_encoders.transformers_source import transformers_source, weights_of
from xt.registry import Registry, nearest

Maker = Callable[..., nn.Module]

# Of `ModuleEncoder`, beside the settings that every region encoder has.
_OPTIONS = ("channels", "extra_tokens", "has_class_token")


def _maker(part: Any) -> Maker:
    if not callable(part):
        raise ConfigError(
            f"what is registered as a region encoder makes one when it is called; {type(part).__name__} is not callable"
        )
    made: Maker = part
    return made


REGION_ENCODERS: Registry[Maker] = Registry("region_encoders", {}, _maker)
"""Beside those of timm, whose names are known without being listed: what makes a region encoder, or a module that
`ModuleEncoder` takes, of the options of a configuration."""


def create_region_encoder(
    name: str, dim: int, *, options: Mapping[str, Any] | None = None, **settings: Any
) -> RegionEncoder:
    """Make a region encoder by name.

    Args:
        name: a key of `REGION_ENCODERS`, or of any timm model that has feature maps, or "transformers:" and what
            `xt.region_encoders.transformers_source` takes.
        dim: width of the tokens, D.
        options: of the network, as keywords of what makes it.
        settings: of `TimmEncoder`, as region_size, halo and in_channels are.

    Raises:
        ConfigError: there is none of that name, or the settings do not fit it.
    """
    if name == features.NAME:
        return _of_features(dim, options or {}, settings)
    if name not in REGION_ENCODERS:
        library = TransformersEncoder if name.startswith(TRANSFORMERS) else TimmEncoder
        return library(name, dim, options=options, **settings)
    origin = settings.pop("origin", None)
    module, own = _made(name, options or {}, settings.get("in_channels", 3))
    encoder = wrapped(module, dim, options=own, **settings)
    encoder.registered_as = name
    encoder.origin = origin
    return encoder


def _of_features(dim: int, options: Mapping[str, Any], settings: Mapping[str, Any]) -> RegionEncoder:
    """Refused are settings of a network, of which there is none."""
    none = {"region_size": (1,), "halo": (0,), "tokens_per_region": (1,), "pretrained": (False,)}
    for name, allowed in none.items():
        if settings.get(name) not in (None, *allowed):
            raise ConfigError(
                f"{name} is about pixels, and the encoder {features.NAME!r} takes none: leave it out, got "
                f"{settings[name]!r}"
            )
    for name in options:
        if name not in ("width", "made_by"):
            raise ConfigError(
                f"the encoder {features.NAME!r} has no option {name!r}; it takes width and made_by"
            )
    return features.FeatureEncoder(dim, **options)


def _made(name: str, options: Mapping[str, Any], in_channels: int) -> tuple[nn.Module, dict[str, Any]]:
    """What a registered maker makes, and those of the options that it does not take, but `ModuleEncoder` does.

    A maker that takes `in_channels` is told of the images' channels.
    """
    maker = REGION_ENCODERS[name]
    taken = inspect.signature(maker).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    own = {key: value for key, value in options.items() if key in _OPTIONS and key not in taken}
    given = {key: value for key, value in options.items() if key not in own}
    for option in given:
        if option not in taken and not takes_all:
            there = [*taken, *_OPTIONS]
            raise ConfigError(
                f"the region encoder {name!r} has no option {option!r}{nearest(option, there)}; it takes "
                f"{', '.join(there)}"
            )
    if "in_channels" in taken:
        given.setdefault("in_channels", in_channels)
    return maker(**given), own


def refuse_without_weights(name: str, pretrained: bool | str) -> None:
    """Say before anything else is done that the weights of a region encoder are neither here nor to be had.

    Raises:
        ConfigError: they are not.
    """
    if not pretrained or name in (features.NAME, *REGION_ENCODERS):
        return
    if name.startswith(TRANSFORMERS):
        weights_of(transformers_source(name, {}, 3), pretrained)
    else:
        weights_for(source_of(name), pretrained)


def wrapped(
    module: nn.Module,
    dim: int,
    *,
    pretrained: bool | str = False,
    options: Mapping[str, Any] | None = None,
    bands: Bands | None = None,
    **settings: Any,
) -> RegionEncoder:
    """A region encoder around a module; one that is already one as it is.

    Args:
        dim: width of the tokens, D.
        options: of `ModuleEncoder`, where the module does not tell everything.
        bands: its channels, where they are named.
        settings: likewise; None for its defaults.

    Raises:
        ConfigError: it is no module, or does not fit the settings.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"a region encoder is a name, a torch.nn.Module or what makes one, not {type(module).__name__}"
        )
    if pretrained:
        raise ConfigError(
            f"{type(module).__name__} is a network of your own, without weights to fetch: set pretrained "
            "to false, and give weights in it, or their file as train.init_encoder"
        )
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(module, RegionEncoder):
        _check_settings(module, given | {"dim": dim} | dict(options or {}))
        module.bands = bands or module.bands
        return module
    model = None if options else whole_model_in(module)
    if model is not None:
        return TransformersEncoder(model, dim, bands=bands, **given)
    if "region_size" not in given:
        raise ConfigError(
            f"region_size is missing: {type(module).__name__} does not say which regions it was made for"
        )
    for name in options or {}:
        if name not in _OPTIONS:
            raise ConfigError(
                f"a module as a region encoder has no option {name!r}; it takes {', '.join(_OPTIONS)}"
            )
    encoder = ModuleEncoder(module, dim, **given, **(options or {}))
    encoder.bands = bands or encoder.bands
    return encoder


def _check_settings(encoder: RegionEncoder, given: Mapping[str, Any]) -> None:
    """An encoder that is there has its settings; they may be said again, but not otherwise."""
    for name, value in given.items():
        own = getattr(encoder, name, "something else")
        if own != value:
            raise ConfigError(f"the region encoder {encoder.name} was made with {name}={own}, not {value}")
