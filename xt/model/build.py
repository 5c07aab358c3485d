"""Models from what describes them: the three parts made, checked against each other and put together."""

from dataclasses import fields
from typing import Any

from xt.context_encoders import create_context_encoder
from xt.errors import ConfigError
from xt.heads import FeatureGeometry, create_head
from xt.model.config import ModelConfig
from xt.model.xt import XT
from xt.region_encoders.timm import RegionEncoder
from xt.registry import nearest


def create_model(encoder: str, **settings: Any) -> XT:
    """Make a model.

    Args:
        encoder: any timm name that has feature maps.
        settings: the other fields of `ModelConfig`, such as context="transformer_xl", head="classification",
            num_classes=10.

    Raises:
        ConfigError: a setting is unknown, or they do not fit together.
    """
    known = {entry.name for entry in fields(ModelConfig)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"create_model has no setting {name!r}{nearest(name, known)}")
    return build_model(ModelConfig(encoder=encoder, **settings))


def build_model(config: ModelConfig) -> XT:
    """Make the model a configuration describes; the three parts are checked against each other here."""
    region_encoder = build_region_encoder(config)
    context_encoder = create_context_encoder(config.context, dim=config.dim, **config.context_options)
    geometry = FeatureGeometry(
        feature_dims=region_encoder.feature_dims,
        strides=region_encoder.strides,
        region_size=region_encoder.region_size,
        halo=region_encoder.halo,
        tokens_per_side=region_encoder.tokens_per_side,
        context_dim=None if config.context == "none" else config.dim,
    )
    head = create_head(
        config.head, dim=config.dim, num_classes=config.num_classes, geometry=geometry, **config.head_options
    )
    return XT(region_encoder, context_encoder, head, config)


def build_region_encoder(config: ModelConfig) -> RegionEncoder:
    """The region encoder of the model that a configuration describes."""
    return RegionEncoder(
        config.encoder,
        config.dim,
        region_size=config.region_size,
        halo=config.halo,
        in_channels=config.in_channels,
        tokens_per_region=config.tokens_per_region,
        pooling=config.pooling,
        pretrained=config.pretrained,
        pixel_mean=config.pixel_mean,
        pixel_std=config.pixel_std,
        options=config.encoder_options,
    )
