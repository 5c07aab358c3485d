"""What a run needs before its first step: the classes, pixel statistics, the model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xt.config.parser import config_from_dict, config_to_dict
from xt.config.run import RunConfig
from xt.data.case_table import most_images
from xt.data.dataset import Reading
from xt.data.feature_folder import FeatureFolder, features_at
from xt.data.feature_store import FeatureStore
from xt.data.grey import in_colour, palette_hint
from xt.data.photo_dataset import PhotoDataset, photo_statistics
from xt.data.sources import Source
from xt.data.statistics import pixel_statistics
from xt.errors import ConfigError, DataWarning
from xt.images import open_image
from xt.images.alpha import alpha_hint, warn_of_shades
from xt.labels.image_table import ImageTable
from xt.model.base_weights import base_of
from xt.model.build import build_model, complete
from xt.model.config import ModelConfig
from xt.model.xt import XT
from xt.region_encoders import features
from xt.region_encoders.hub import repository_of
from xt.region_encoders.pretrained import named_file
from xt.region_encoders.weights import take_file, take_weights
from xt.streaming.map import Streaming
from xt.tasks import task_of
from xt.training.callbacks import Report

_MOST_NAMED = 24
LAST = Path("checkpoints") / "last.ckpt"
"""Where the last checkpoint lies in a run folder."""


def resolve_classes(config: RunConfig, table: ImageTable) -> RunConfig:
    """The configuration with the classes of the data.

    Raises:
        ConfigError: the configuration says another number of classes, or other names; or a
            classification has only one class.
    """
    names = table.class_names
    given = config.model
    task_of(given.head).check_outputs(table)
    if given.num_classes not in (len(names), _default("num_classes")):
        raise ConfigError(
            f"model.num_classes is {given.num_classes}, but {table.source} has {len(names)}: {_some(names)}; "
            "leave it out, or name all classes in labels.class_names"
        )
    if given.class_names is not None and tuple(given.class_names) != names:
        raise ConfigError(
            f"model.class_names are {_some(given.class_names)}, those of {table.source} {_some(names)}; "
            "leave them out, or set labels.class_names"
        )
    return replace(config, model=replace(given, num_classes=len(names), class_names=names))


def fitted(config: RunConfig, table: ImageTable, stored: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration with what the head takes from the labels of the training images.

    Args:
        stored: the model of a run that is gone on with: what was measured then, or was not in a version of before.
    """
    model = config.model
    if stored is None:
        return replace(config, model=task_of(model.head).fitted(model, table.by_case(), config.labels))
    model = task_of(model.head).named(model, table.class_names)
    options = {**stored.get("head_options", {}), **model.head_options}
    return replace(config, model=replace(model, head_options=options))


def with_cases(config: RunConfig, table: ImageTable) -> RunConfig:
    """The configuration of a run with a vector in the model for each image of a case, where the table has cases."""
    if config.model.case_images is not None or table.cases is None:
        return config
    return replace(config, model=replace(config.model, case_images=most_images(table)))


def with_adapter(config: RunConfig) -> RunConfig:
    """The configuration of a run with the adapter in the model that it trains."""
    adapter = config.optim.schedule.adapter
    return config if adapter is None else replace(config, model=replace(config.model, adapter=str(adapter)))


def refuse_without_features(config: RunConfig) -> None:
    """Say before anything else is done that the model takes features, and nothing says where they are.

    Raises:
        ConfigError: nothing does.
    """
    if config.model.encoder == features.NAME and config.data.encoded is None:
        raise ConfigError(
            f"model.encoder is {features.NAME!r}, which finds nothing in pixels: give the folder of features "
            "(data.features), or name a region encoder"
        )


def with_features(config: RunConfig, table: ImageTable) -> RunConfig:
    """The configuration of a run that begins with features of others, with what their files say of them in its model.

    Raises:
        ConfigError: they are wider than it says, or those of a store, whose encoder is known.
    """
    model, encoded = config.model, config.data.encoded
    if model.encoder != features.NAME:
        return config
    assert encoded is not None, "refused before the table is read"
    if config.optim.unfreeze_at is not None:
        raise ConfigError(
            f"optim.unfreeze_at is {config.optim.unfreeze_at}, and nothing is known that finds such features in "
            "pixels: name the region encoder that made them (model.encoder), or leave it out"
        )
    place = features_at(encoded)
    if isinstance(place, FeatureStore):
        made = ", ".join(f"model.{name}={value}" for name, value in place.settings.items() if value)
        raise ConfigError(f"{encoded} was made by a region encoder that is known: say which ({made})")
    kind = place.kind(table.paths)._asdict()
    for name, value in model.encoder_options.items():
        if value not in (None, kind.get(name, value)):
            raise ConfigError(
                f"model.encoder_options.{name} is {value}, and the features in {encoded} say {kind[name]}: leave it out"
            )
    return replace(config, model=replace(model, encoder_options={**model.encoder_options, **kind}))


def _some(names: Sequence[str]) -> str:
    """All of a few names; of thousands the first."""
    more = f", ... ({len(names)})" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def prepare_model(config: RunConfig, table: ImageTable, report: Report | None = None) -> tuple[XT, RunConfig]:
    """The model to be trained, and the configuration with all that was measured for it.

    Pixel statistics are, in this order: the configuration's, those in `train.init_encoder`, the pretrained
    weights' own, measured on regions of the training images. With `data.tokens`, weights and statistics that the
    configuration does not give come from there.
    """
    encoded = None if config.data.encoded is None else features_at(config.data.encoded)
    store = encoded if isinstance(encoded, FeatureStore) else None
    reads_pixels = encoded is None or config.optim.unfreeze_at is not None
    if reads_pixels and config.model.image_size is None:
        _check_channels(config, table)
    # A store has the weights, so that the pretrained ones need not be fetched.
    # Weights are laid, and adapters put beside them, when they have come; in a store that has been done before.
    changed: dict[str, Any] = {"pretrained": False}
    if store is None:
        changed = {"adapter": None, "encoder_dtype": "float32"}
    model = build_model(replace(config.model, **changed))
    has_statistics = config.model.pixel_mean is not None or (bool(config.model.pretrained) and store is None)
    if config.train.init_encoder is not None:
        has_statistics |= load_encoder(model, config.train.init_encoder)
    if store is not None:
        _take_encoder(store, model, config, has_statistics)
    elif isinstance(encoded, FeatureFolder):
        _check_kind(encoded, model, table)
        model.region_encoder.freeze()
        if reads_pixels:
            _warn_of_sizes(encoded, model, table)
    elif not has_statistics:
        _set_statistics(model, *_measured_statistics(model, config, table, report))
    if store is None:
        complete(model.region_encoder, config.model)
    scaling = model.region_encoder.scaling
    made = {name: getattr(model.config, name) for name in ("readout", "pooling", "encoder_origin")}
    resolved = replace(
        config.model, pixel_mean=tuple(scaling.mean.tolist()), pixel_std=tuple(scaling.std.tolist()), **made
    )
    # In the form in which files give it back, so that a configuration equals the one that was saved from it.
    config = config_from_dict(config_to_dict(replace(config, model=resolved)))
    # What the model says of itself must be what it computes with.
    model.config = config.model
    if store is None and not config.optim.schedule.is_all:
        file = config.train.init_encoder
        if file is not None and repository_of(file) is None:
            file = str(named_file(file, "train.init_encoder").absolute())
        model.base = base_of(model.state_dict(), config.model.pretrained, file)
    settings = config.train
    model.streaming = Streaming(
        region_batch=settings.region_batch, keep=settings.keep, gradient_fraction=settings.gradient_fraction
    )
    return model, config


def _measured_statistics(
    model: XT, config: RunConfig, table: ImageTable, report: Report | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the pixels of training images."""

    def progress(done: int, total: int) -> None:
        if report is not None:
            report("measure pixels", done, total, {})

    number, seed = config.data.statistics_regions, config.train.seed
    if model.config.image_size is not None:
        photos = PhotoDataset(table, model.config.image_size)
        mean, std = photo_statistics(photos, number, seed=seed, progress=progress)
    else:
        how = reading(config.data, model)
        mean, std = pixel_statistics(
            table.paths,
            region_size=model.region_encoder.region_size,
            num_regions=number,
            grid=model.grid,
            seed=seed,
            opened=lambda place: how.open(table.paths[place], table.microns_of(place)),
            progress=progress,
        )
    return torch.tensor(mean), torch.tensor(std)


def reading(data: Source, model: XT) -> Reading:
    """How the images are opened and looked at."""
    return replace(opening(data, model.config), region_size=model.region_encoder.region_size)


def opening(data: Source, model: ModelConfig) -> Reading:
    """How the images are opened; what is looked at of them takes the model's region size, which is 1 here."""
    return Reading(
        region_size=1,
        view=data.view,
        crops=data.crops,
        nodata=data.nodata,
        alpha=data.alpha,
        features=None if data.encoded is None else features_at(data.encoded),
        image_size=model.image_size,
        workers=data.photos.workers,
        channels=_channels(model, data),
        resolution=model.resolution,
    )


def load_encoder(model: XT, place: str | Path) -> bool:
    """Put weights from a file into the region encoder's network; whether pixel statistics came too.

    Args:
        place: a file, a folder, or a name of the hub, as `train.init_encoder` takes them.

    Raises:
        CheckpointError: the file cannot be read, or does not fill the network.
        ConfigError: there is no such file, or its weights know other channels than is said.
    """
    taken = take_file(model.region_encoder, named_file(str(place), "train.init_encoder"))
    model.config = replace(model.config, encoder_origin=model.region_encoder.origin)
    if taken.left_out is not None:
        warnings.warn(taken.left_out, DataWarning, stacklevel=2)
    if taken.statistics is None:
        return False
    if model.config.pixel_mean is None:
        _set_statistics(model, *taken.statistics)
    return True


def _take_encoder(store: FeatureStore, model: XT, config: RunConfig, has_statistics: bool) -> None:
    """Give the model the region encoder that made the store, frozen; refuse one that the configuration says
    is another."""
    augmentation = config.data.augmentation
    store.check_augmentation(augmentation.flips, augmentation.quarter_turns)
    store.check_settings(model, config.data.nodata, config.data.alpha)
    state = store.encoder_state()
    if config.train.init_encoder is None:
        # Made by this encoder, so that its filters are of these channels.
        take_weights(model.region_encoder, state, store.path, known=model.region_encoder.bands.names)
    if not has_statistics:
        _set_statistics(model, state["scaling.mean"], state["scaling.std"])
    store.check_encoder(model, config.data.nodata, config.data.alpha)
    model.region_encoder.freeze()


def _check_kind(folder: FeatureFolder, model: XT, table: ImageTable) -> None:
    """Refuse features of others that the model's region encoder would not have found so."""
    kind, encoder = folder.kind(table.paths[:1]), model.region_encoder
    if (encoder.tokens_per_region, encoder.feature_width) != (1, kind.width):
        raise ConfigError(
            f"the features in {folder.path} are {kind.width} numbers a "
            f"patch{f' of {kind.made_by}' if kind.made_by else ''}; "
            f"{encoder.name} finds {encoder.feature_width} for each of {encoder.tokens_per_region} tokens a "
            "region: set model.tokens_per_region to 1 and model.readout to what it was, or leave model.encoder out"
        )


def _warn_of_sizes(folder: FeatureFolder, model: XT, table: ImageTable) -> None:
    """Say where patches are of another size than the regions that will be read in their place."""
    size, region = folder.image(table.paths[0]).grid.region_size, model.region_encoder.region_size
    if size != region and not model.reading.resolution.is_set:
        warnings.warn(
            f"the features in {folder.path} are of patches of {size:g} pixels of level 0, and from epoch "
            "unfreeze_at on the "
            f"model reads regions of {region}: set model.microns_per_pixel to the resolution that the patches "
            "were read at",
            DataWarning,
            stacklevel=2,
        )


def _check_channels(config: RunConfig, table: ImageTable) -> None:
    model, data = config.model, config.data
    path = table.paths[0]
    with in_colour(open_image(path, data.nodata, alpha=data.alpha), _channels(model, data)) as image:
        if image.channels != model.in_channels:
            raise ConfigError(
                f"model.in_channels is {model.in_channels}, but {image.name} has {image.channels} channels; "
                f"set model.in_channels to {image.channels}{alpha_hint(image, model.in_channels)}{palette_hint(image)}"
            )
        if image.alpha_bands:
            warn_of_shades(path)


def _channels(model: ModelConfig, data: Source) -> int | None:
    """See `Reading`: COCO's images are photographs, some of them grey."""
    return model.in_channels if data.has_grey_among_coloured else None


def _set_statistics(model: XT, mean: torch.Tensor, std: torch.Tensor) -> None:
    model.region_encoder.scaling.mean.copy_(mean)
    model.region_encoder.scaling.std.copy_(std)


def _default(name: str) -> object:
    return ModelConfig.__dataclass_fields__[name].default
