"""Exported models from their folders: graphs in place of parts, in the same `XT`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xt.context_encoders import NoContext
from xt.errors import CheckpointError
from xt.exporting.exported import (
    ExportedContextEncoder,
    ExportedDenseHead,
    ExportedHead,
    ExportedRegionEncoder,
)
from xt.exporting.manifest import Manifest, read_manifest
from xt.exporting.programs import Program, read_part
from xt.heads import DenseHead, FeatureGeometry, Head, create_head
from xt.model.cases import WhichImage
from xt.model.config import ModelConfig
from xt.model.inputs import ImageReading
from xt.model.xt import XT
from xt.option_types import from_dict

_WHICH_IMAGE = "which_image."


def load_exported(folder: str | Path) -> tuple[XT, Manifest]:
    """The model of a folder that `export` wrote, and what it says of itself.

    It answers as the one that it was exported from; it does not learn. The graphs of a compiled export are machine
    code: take it from whom you would take a program.

    Raises:
        CheckpointError: it is damaged, or this machine cannot run it.
        MissingPackageError: what runs it is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        config = from_dict(ModelConfig, manifest.config, "model")
        return _assembled(folder, manifest, config), manifest
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} describes no model ({error}): export it again") from error


def _assembled(folder: Path, manifest: Manifest, config: ModelConfig) -> XT:
    programs = {
        name: read_part(folder / Path(part.file).name, manifest.graphs)
        for name in manifest.parts
        if (part := manifest.part(name)) is not None
    }
    encoder = ExportedRegionEncoder(programs["region_encoder"], manifest, config.dim)
    mixes = "context_encoder" in programs
    context = (
        ExportedContextEncoder(programs["context_encoder"], config.dim, manifest.longest)
        if mixes
        else NoContext(config.dim)
    )
    geometry = FeatureGeometry(
        feature_dims=encoder.feature_dims,
        strides=encoder.strides,
        region_size=encoder.region_size,
        halo=encoder.halo,
        tokens_per_side=encoder.tokens_per_side,
        context_dim=config.dim if mixes else None,
    )
    head = create_head(
        config.head, dim=config.dim, num_classes=config.num_classes, geometry=geometry, **config.head_options
    )
    which_image = None if config.case_images is None else WhichImage(config.case_images, config.dim)
    only(head, manifest.numbers, "head.")
    if which_image is not None:
        only(which_image, manifest.numbers, _WHICH_IMAGE)
    reading = ImageReading(
        resolution=config.resolution,
        image_size=config.image_size,
        order=config.order,
        foreground=config.foreground,
    )
    model = XT(
        encoder,
        context,
        _answering(programs["head"], head),
        reading=reading,
        which_image=which_image,
        config=config,
    ).eval()
    model.streaming = replace(model.streaming, region_batch=int(manifest.region["regions_at_a_time"]))
    return model


def _answering(program: Program, head: Head | DenseHead) -> ExportedHead | ExportedDenseHead:
    if isinstance(head, DenseHead):
        return ExportedDenseHead(program, head)
    return ExportedHead(program, head)


def only(module: nn.Module, numbers: Mapping[str, Any], prefix: str) -> None:
    """Give a module those weights that no graph has, and take all others away."""
    for name in list(module.state_dict()):
        *path, last = name.split(".")
        owner: nn.Module = module.get_submodule(".".join(path))
        given = numbers.get(prefix + name)
        held: Any = owner._parameters if last in owner._parameters else owner._buffers
        if given is None:
            held[last] = None
        else:
            value = torch.tensor(given, dtype=held[last].dtype).reshape(held[last].shape)
            held[last] = nn.Parameter(value, requires_grad=False) if held is owner._parameters else value
