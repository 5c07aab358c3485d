"""Parts that are there already put together as a configuration says; nothing here makes a network."""

from dataclasses import replace

from xt.context_encoders import ContextEncoder, NoContext
from xt.errors import ConfigError
from xt.heads import DenseHead, FeatureGeometry, Head, create_head
from xt.heads.dense import as_dense
from xt.model.by_model import Scorer
from xt.model.cases import WhichImage
from xt.model.choices import create_region_choice
from xt.model.config import ModelConfig
from xt.model.inputs import ImageReading
from xt.model.scales import WhichScale
from xt.model.thumbnail import Thumbnail
from xt.model.xt import XT
from xt.region_encoders.base import RegionEncoder


def head_of(
    config: ModelConfig, region_encoder: RegionEncoder, context_encoder: ContextEncoder
) -> Head | DenseHead:
    """The head behind these parts.

    Raises:
        ConfigError: it does not fit them.
    """
    head = create_head(
        config.head,
        dim=config.dim,
        num_classes=config.num_classes,
        geometry=feature_geometry(region_encoder, context_encoder, config.thumbnail),
        **config.head_options,
    )
    config.check_answers(as_dense(head) is not None)
    return head


def assembled(
    config: ModelConfig,
    region_encoder: RegionEncoder,
    context_encoder: ContextEncoder,
    head: Head | DenseHead,
) -> XT:
    """The model of these parts, with how it looks at images and what tells tokens apart."""
    choice = create_region_choice(config.regions, config.levels, **config.regions_options)
    reading = ImageReading(
        resolution=config.resolution,
        image_size=config.image_size,
        order=config.order,
        foreground=config.foreground,
        choice=choice,
    )
    if choice.asks_model and as_dense(head) is not None and not config.thumbnail and config.context == "none":
        raise ConfigError(
            f"model.regions {config.regions!r} learns what to open from what opened regions tell others, and with no "
            f"context encoder the head {config.head!r} hears nothing: take a context encoder, or by_content"
        )
    which_image = None if config.case_images is None else WhichImage(config.case_images, config.dim)
    which_scale = WhichScale(choice.levels, config.dim) if choice.levels > 1 else None
    as_made = _as_made(
        replace(config, levels=choice.levels if which_scale else config.levels), region_encoder
    )
    return XT(
        region_encoder,
        context_encoder,
        head,
        reading=reading,
        which_image=which_image,
        thumbnail=Thumbnail(config.dim) if config.thumbnail else None,
        which_scale=which_scale,
        scorer=Scorer(config.dim) if choice.asks_model else None,
        config=as_made,
    )


def _as_made(config: ModelConfig, region_encoder: RegionEncoder) -> ModelConfig:
    """The configuration with what the region encoder has decided: a file says it, whatever is decided later on."""
    return replace(
        config,
        encoder=region_encoder.registered_as or config.encoder,
        readout=region_encoder.readout,
        pooling=region_encoder.pooling,
        encoder_origin=region_encoder.origin,
    )


def feature_geometry(
    region_encoder: RegionEncoder, context_encoder: ContextEncoder, thumbnail: bool = False
) -> FeatureGeometry:
    """What a head that answers about every place has to know of the parts before it.

    Args:
        thumbnail: whether tokens know the whole image from its thumbnail, whatever the context encoder.
    """
    return FeatureGeometry(
        feature_dims=region_encoder.feature_dims,
        strides=region_encoder.strides,
        region_size=region_encoder.region_size,
        halo=region_encoder.halo,
        tokens_per_side=region_encoder.tokens_per_side,
        context_dim=context_encoder.dim if thumbnail or not isinstance(context_encoder, NoContext) else None,
    )
