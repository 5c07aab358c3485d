"""Models from what describes them: the three parts made, checked against each other and put together."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from xt.context_encoders import create_context_encoder
from xt.errors import ConfigError
from xt.heads.dense import as_dense
from xt.model.assembly import assembled, head_of
from xt.model.config import ModelConfig
from xt.model.xt import XT
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.creation import create_region_encoder, wrapped
from xt.region_encoders.trained import parse_trained
from xt.registry import nearest

# What a region encoder that is there already says, where nobody says it again.
_SAID_BY_ENCODERS = (
    "dim", "region_size", "halo", "in_channels", "tokens_per_region", "pooling", "readout", "adapter", "encoder_dtype",
)  # fmt: skip


def create_model(encoder: str | nn.Module | Callable[[], nn.Module], **settings: Any) -> XT:
    """Make a model.

    Args:
        encoder: any timm name that has feature maps, also hf-hub:OWNER/NAME and local-dir:PATH; or a network of your
            own: a module that `ModuleEncoder` takes (then with region_size), a `RegionEncoder`, or what makes either.
        settings: the other fields of `ModelConfig`, such as context="transformer_xl", head="classification",
            num_classes=10.

    Raises:
        ConfigError: a setting is unknown, or they do not fit together.
    """
    known = {entry.name for entry in fields(ModelConfig)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"create_model has no setting {name!r}{nearest(name, known)}")
    if isinstance(encoder, str):
        return build_model(ModelConfig(encoder=encoder, **settings))
    module = encoder if isinstance(encoder, nn.Module) else encoder()
    if isinstance(module, RegionEncoder):
        settings = {name: getattr(module, name) for name in _SAID_BY_ENCODERS} | settings
    name = module.name if isinstance(module, RegionEncoder) else type(module).__name__
    return build_model(ModelConfig(encoder=name, **settings), module)


def build_model(config: ModelConfig, network: nn.Module | None = None) -> XT:
    """Make the model a configuration describes; the three parts are checked against each other here.

    Args:
        network: the region encoder, or what it is made around; None for the one that the configuration names.
    """
    region_encoder = build_region_encoder(config, network)
    context_encoder = create_context_encoder(config.context, dim=config.dim, **config.context_options)
    head = head_of(config, region_encoder, context_encoder)
    if as_dense(head) is not None:
        region_encoder.check_places()
    return assembled(config, region_encoder, context_encoder, head)


def build_region_encoder(config: ModelConfig, network: nn.Module | None = None) -> RegionEncoder:
    """The region encoder of the model that a configuration describes; see `build_model`."""
    settings: Mapping[str, Any] = {
        "region_size": config.region_size,
        "halo": config.halo,
        "in_channels": config.in_channels,
        "tokens_per_region": config.tokens_per_region,
        "pooling": config.pooling,
        "readout": config.readout,
        "pretrained": config.pretrained,
        "pixel_mean": config.pixel_mean,
        "pixel_std": config.pixel_std,
        "options": config.encoder_options,
        "bands": None if config.channels is None else config.bands,
    }
    if network is not None:
        encoder = wrapped(network, config.dim, **settings)
    else:
        encoder = create_region_encoder(config.encoder, config.dim, origin=config.encoder_origin, **settings)
    complete(encoder, config)
    return encoder


def complete(encoder: RegionEncoder, config: ModelConfig) -> None:
    """Lay a region encoder's weights and put an adapter beside them, as the configuration says; see `ModelConfig`."""
    if config.encoder_dtype not in ("float32", encoder.encoder_dtype):
        encoder.lay_weights_in(config.encoder_dtype)
    if config.adapter is not None and encoder.adapter is None:
        encoder.adapt(parse_trained(config.adapter))
