"""Exported models from their folders: graphs in place of parts, in the same `XT`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from safetensors.torch import load_file
from torch import Tensor

from xt.context_encoders import ContextEncoder, NoContext
from xt.errors import CheckpointError, MissingPackageError
from xt.exporting.exported import (
    ExportedContextEncoder,
    ExportedDenseHead,
    ExportedHead,
    ExportedRegionEncoder,
)
from xt.exporting.manifest import Manifest, read_manifest
from xt.exporting.programs import Program, read_part
from xt.heads import DenseHead, Head
from xt.heads.dense import as_dense
from xt.model.assembly import assembled, head_of
from xt.model.config import ModelConfig
from xt.model.xt import XT
from xt.option_types import from_dict


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
    except (CheckpointError, MissingPackageError):
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} describes no model ({error}): export it again") from error


def _assembled(folder: Path, manifest: Manifest, config: ModelConfig) -> XT:
    programs = {
        name: read_part(folder / Path(part.file).name, part.kind)
        for name in manifest.parts
        if (part := manifest.part(name)) is not None
    }
    encoder = ExportedRegionEncoder(programs["region_encoder"], manifest, config.dim)
    encoder.origin = config.encoder_origin
    context: ContextEncoder = NoContext(config.dim)
    if "context_encoder" in programs:
        context = ExportedContextEncoder(programs["context_encoder"], config.dim, manifest.longest)
    head = head_of(config, encoder, context)
    model = assembled(config, encoder, context, head).eval()
    _take(model, {} if manifest.rest is None else load_file(folder / Path(manifest.rest.file).name))
    model.head = _answering(programs["head"], head)
    model.streaming = replace(model.streaming, region_batch=int(manifest.region["regions_at_a_time"]))
    return model


def _answering(program: Program, head: Head | DenseHead) -> ExportedHead | ExportedDenseHead:
    dense = as_dense(head)
    return ExportedHead(program, cast(Head, head)) if dense is None else ExportedDenseHead(program, dense)


def _take(model: XT, weights: Mapping[str, Tensor]) -> None:
    """Give a model those weights that no graph has, and take the rest of its head's away."""
    for name in model.head.state_dict():
        *path, last = f"head.{name}".split(".")
        owner = model.get_submodule(".".join(path))
        if f"head.{name}" not in weights:
            (owner._parameters if last in owner._parameters else owner._buffers)[last] = None
    kept = {"region_encoder.source", "region_encoder.scaling.mean", "region_encoder.scaling.std"}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) - kept or unexpected:
        names = [*sorted(set(missing) - kept), *unexpected]
        raise CheckpointError(f"the numbers beside the graphs are not those of the model, such as {names[0]}")
