"""`xt.export`: a model as three graphs and a manifest, wholly there or not at all."""

import copy
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xt import __version__
from xt.errors import CheckpointError, ConfigError, OutputError
from xt.images.bands import ALPHA
from xt.model.exported import MANIFEST, is_exported
from xt.output import atomic_folder
from xt.progress import OnStage

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from xt.config.run import RunConfig
    from xt.exporting.manifest import Manifest, RestFile
    from xt.model.xt import XT

Format = Literal["pt2", "onnx"]
FORMATS: tuple[Format, ...] = ("pt2", "onnx")
EncoderDtype = Literal["bfloat16", "int8"]
ENCODER_DTYPES: tuple[EncoderDtype, ...] = ("bfloat16", "int8")


def export(
    model: "XT | str | os.PathLike[str]",
    out: str | os.PathLike[str],
    *,
    format: Format = "pt2",
    compile: bool = False,
    encoder_dtype: EncoderDtype | None = None,
    progress: OnStage | None = None,
) -> "Manifest":
    """Write a model as graphs that a machine without the code of its parts can run.

    The folder gets a graph each of the region encoder, the context encoder (none of a model without context) and the
    head, and a manifest.json with all that is not in them. `xt.predict` takes the folder like a model.

    Args:
        model: a model, or the path of a run folder, a model.safetensors or a .ckpt.
        out: the folder; an exported model that is there already is replaced.
        format: "pt2" for PyTorch, "onnx" for ONNX Runtime.
        compile: of pt2: machine code for this kind of processor by AOTInductor, which needs a C++ compiler; of what
            loops over the tokens (context encoders, heads about whole images) the graphs stay.
        encoder_dtype: that the region encoder's weights are laid in first, see `xt.region_encoders.weight_types`; None
            for as they are.
        progress: told which part is being written.

    Raises:
        ConfigError: a part cannot be exported, or an option is unknown.
        CheckpointError: there is no such model.
        OutputError: the folder cannot be written, or holds something else.
    """
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if compile and format != "pt2":
        raise ConfigError(f"compile is for the format pt2, got {format!r}")
    folder = Path(out)
    _check_replaceable(folder)
    # Only now, as a refusal does not wait for torch.
    from xt.exporting.manifest import digest_of
    from xt.exporting.parts import parts_of
    from xt.exporting.programs import PROGRAMS, graph_of, kind_of, write_part

    made, run = _loaded(model)
    made.to("cpu").eval()
    _lay(made, encoder_dtype)
    if not made.region_encoder.takes_pixels:
        raise ConfigError(
            "the model was trained on features and has no network that finds them in pixels, so that there is nothing "
            "to export for images"
        )
    graphs = "compiled" if compile else format
    parts, written, unused = parts_of(made), {}, set()
    with atomic_folder(folder) as temporary:
        for number, part in enumerate(parts):
            if progress is not None:
                progress(part.name, number, len(parts))
            graph = graph_of(part)
            unused |= _unused(graph)
            kind = kind_of(graph, graphs)
            path = temporary / f"{part.name}{PROGRAMS[kind].ending}"
            write_part(part, graph, path, kind)
            written[part.name] = {
                "file": path.name,
                "sha256": digest_of(path),
                "kind": kind,
                "inputs": part.inputs,
                "outputs": part.outputs,
            }
        rest = _write_rest(made, unused, temporary)
        manifest = _manifest(made, run, graphs, written, rest)
        (temporary / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    if progress is not None:
        progress("manifest", len(parts), len(parts))
    return manifest


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds something else than an exported model."""
    if folder.exists() and not (folder.is_dir() and (is_exported(folder) or not any(folder.iterdir()))):
        raise OutputError(
            f"{folder} is there already and holds no exported model: name a new folder, or remove what is in it"
        )


def _loaded(model: "XT | str | os.PathLike[str]") -> "tuple[XT, RunConfig | None]":
    """A model that may be changed, and how it was trained if that is known."""
    if not isinstance(model, str | os.PathLike):
        return copy.deepcopy(model), None
    from xt.training.checkpoints import load_trained

    if is_exported(Path(model)):
        raise CheckpointError(f"{model} is an exported model already: name the one that it was made from")
    return load_trained(model)


def _lay(model: "XT", encoder_dtype: EncoderDtype | None) -> None:
    if encoder_dtype is None:
        return
    if encoder_dtype not in ENCODER_DTYPES:
        raise ConfigError(f"encoder_dtype must be one of {', '.join(ENCODER_DTYPES)}, got {encoder_dtype!r}")
    model.region_encoder.lay_weights_in(encoder_dtype)


def _unused(graph: "ExportedProgram") -> set[str]:
    """Weights that a part has and its graph does not compute with."""
    used = {node.name for node in graph.graph.nodes if node.op == "placeholder" and node.users}
    return {
        str(spec.target)
        for spec in graph.graph_signature.input_specs
        if spec.target is not None and spec.arg.name not in used
    }


def _write_rest(model: "XT", unused: set[str], folder: Path) -> "RestFile | None":
    """The weights that are in no graph: the head's that its graph does not use, and those beside the three parts."""
    from safetensors.torch import save_file

    from xt.exporting.manifest import RestFile, digest_of

    in_graphs = ("region_encoder.", "context_encoder.", "head.")
    rest = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith(in_graphs) or (name.startswith("head.") and name in unused)
    }
    if not rest:
        return None
    path = folder / "rest.safetensors"
    save_file(rest, path)
    return RestFile(file=path.name, sha256=digest_of(path))


def _manifest(
    model: "XT",
    run: "RunConfig | None",
    graphs: str,
    written: Mapping[str, Any],
    rest: "RestFile | None",
) -> "Manifest":
    import torch

    from xt.context_encoders.kernels.fixed_scales import LONGEST
    from xt.exporting.manifest import Manifest
    from xt.model.identity import model_identity

    encoder, config = model.region_encoder, model.config
    region = {
        "name": encoder.name,
        "region_size": encoder.region_size,
        "halo": encoder.halo,
        "in_channels": encoder.in_channels,
        "strides": encoder.strides,
        "feature_dims": encoder.feature_dims,
        "tokens_per_side": encoder.tokens_per_side,
        "readout": encoder.readout,
        "pooling": encoder.pooling,
        "encoder_dtype": encoder.encoder_dtype,
        "regions_at_a_time": model.region_batch,
    }
    return Manifest(
        graphs=graphs,
        config=asdict(config),
        region=region,
        pixel_mean=encoder.scaling.mean.tolist(),
        pixel_std=encoder.scaling.std.tolist(),
        class_names=list(config.class_names or ()),
        thresholds=list(config.head_options.get("thresholds") or ()),
        longest=LONGEST,
        rest=rest,
        nodata=None if run is None else run.data.nodata,
        alpha=ALPHA if run is None else run.data.alpha,
        versions={"xt": __version__, "torch": torch.__version__},
        source=model_identity(model),
        parts=written,
    )
