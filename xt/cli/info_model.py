"""`xt info MODEL`: what a model is, and where the weights of its region encoder are from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xt.errors import CheckpointError, ConfigError
from xt.hub.place import pinned
from xt.model.exported import MANIFEST
from xt.training.fold_files import SUMMARY

_WEIGHTS = "model.safetensors"
_RUN_BY = {"pt2": "run by PyTorch", "compiled": "machine code, run by PyTorch", "onnx": "run by ONNX Runtime"}


def file_of_model(place: Path) -> Path | None:
    """The file of a model, or of the one in a run's folder; None of whatever else a path means."""
    if place.is_dir() and (place / _WEIGHTS).is_file():
        return place / _WEIGHTS
    return place if place.suffix in (".safetensors", ".ckpt") and place.is_file() else None


def description(path: Path) -> Iterator[tuple[str, str]]:
    """Names and values, a line each.

    Raises:
        CheckpointError: it is no model of `xt train`, or was changed.
    """
    config, shapes, base = _read(path)
    tensors = {name: _count(shape) for name, shape in shapes.items()}
    encoder = sum(count for name, count in tensors.items() if name.startswith("region_encoder."))
    origin = config.encoder_origin or {}
    place = pinned(path)
    if place is not None:
        yield "on the hub", f"{place.repository}, revision {place.revision}"
    yield "model", _parts(config)
    yield (
        "parameters",
        f"{sum(tensors.values()) / 1e6:,.1f} million{'' if base is None else ' in the file'}, "
        f"{encoder / 1e6:,.1f} in the region encoder",
    )
    if base is not None:
        yield "left out", f"{base['tensors']} weights of its base, sha256 {base['sha256']}"
    if config.adapter is not None:
        yield "adapter", config.adapter
    yield "weights from", _origin(origin)
    if config.encoder_dtype != "float32":
        yield "weights in", f"{config.encoder_dtype}, those of the region encoder"
    yield from _sizes(config)


def _parts(config: Any) -> str:
    origin = config.encoder_origin or {}
    kind = origin.get("architecture") or origin.get("transformers", {}).get("model_type")
    return f"{config.encoder}{f' ({kind})' if kind else ''}, {config.context}, {config.head}"


def _sizes(config: Any) -> Iterator[tuple[str, str]]:
    """What a model sees and says, by its configuration alone."""
    names = "" if config.class_names is None else f": {', '.join(map(str, config.class_names[:12]))}"
    yield "classes", f"{config.num_classes}{names}{', ...' if len(config.class_names or ()) > 12 else ''}"
    size = "the region encoder's own" if config.region_size is None else f"{config.region_size} pixels"
    yield (
        "regions",
        f"{size}, {config.in_channels} channels{_names(config.channels)}"
        + (f", halo {config.halo}" if config.halo else ""),
    )
    tokens = config.tokens_per_region or "as many as the readout gives"
    yield (
        "tokens",
        f"{tokens} a region, readout {config.readout}, {config.pooling} pooling, width {config.dim}",
    )
    if config.regions != "all":
        options = ", ".join(f"{name} {value}" for name, value in config.regions_options.items())
        yield "looks at", f"what is chosen {config.regions}{f' ({options})' if options else ''}"
    if config.thumbnail:
        yield "thumbnail", "the whole image in one region's size, before its tokens"
    if config.resolution.is_set:
        value, unit = config.microns_per_pixel, "micrometres"
        yield "reads at", f"{value or config.map_units_per_pixel:g} {unit if value else 'metres'} a pixel"


def _names(channels: Any) -> str:
    return "" if channels is None else f" ({', '.join(channels)})"


def description_of_exported(folder: Path) -> Iterator[tuple[str, str]]:
    """What an exported model is: its graphs, and the model that they were made from.

    Raises:
        CheckpointError: it is damaged, or a graph is missing or another one.
    """
    from xt.exporting.manifest import read_manifest
    from xt.model.files import model_config, unknown_model

    manifest = read_manifest(folder)
    try:
        config = model_config(manifest.config)
    except ConfigError as error:
        raise unknown_model(folder / MANIFEST, error) from error
    files = {name: part for name in manifest.parts if (part := manifest.part(name)) is not None}
    yield (
        "exported",
        f"as {manifest.graphs}, for `xt predict`; by xt {manifest.versions.get('xt', 'of then')}",
    )
    yield "model", _parts(config)
    for name, part in files.items():
        size = (folder / Path(part.file).name).stat().st_size / 1e6
        yield (
            name.replace("_", " "),
            f"{Path(part.file).name}, {size:,.1f} MB, {_RUN_BY.get(part.kind, part.kind)}",
        )
    yield "made from", f"a model with the identity {manifest.source[:12]}"
    yield "weights from", _origin(config.encoder_origin or {})
    if (dtype := manifest.region.get("encoder_dtype", "float32")) != "float32":
        yield "weights in", f"{dtype}, those of the region encoder"
    yield from _sizes(config)


def description_of_folds(path: Path, folders: list[Path]) -> Iterator[tuple[str, str]]:
    """What a run of folds found, then what each of its models is."""
    found = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    groups = "" if found["groups"] is None else f" of {found['groups']} groups"
    repeats = f", {found['repeats']} times" if found["repeats"] > 1 else ""
    yield "folds", f"{found['folds']}{repeats}, of {found['images']} images{groups}"
    yield "models", f"{len(folders)}: {', '.join(folder.name for folder in folders[:12])}"
    for name, one in found["metrics"].items():
        if "(" in name or one["mean"] is None:
            continue
        deviation = "" if one["std"] is None else f", deviation {one['std']:.4g}"
        interval = one.get("interval")
        over_all = "" if one.get("out_of_fold") is None else f"; all images {one['out_of_fold']:.4g}"
        known = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
        yield name, f"mean {one['mean']:.4g}{deviation}{over_all}{known}"
    yield from description(folders[0] / _WEIGHTS)


def _origin(origin: Any) -> str:
    if "sha256" not in origin:
        return "no file that is known of: a random start, or a model of before this was written down"
    from xt.region_encoders.origin import in_words

    return in_words(origin)


def _read(path: Path) -> tuple[Any, dict[str, tuple[int, ...]], dict[str, Any] | None]:
    """The configuration, the shape of each weight, and what is said of those that are left out."""
    from xt.model.base_weights import described_base
    from xt.model.files import model_config, unknown_model
    from xt.model.weights_file import FORMAT
    from xt.training.checkpoints import read_checkpoint

    if path.suffix == ".ckpt":
        checkpoint = read_checkpoint(path)
        shapes = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
        return checkpoint.config.model, shapes, None
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # types that PyTorch does not have end in whatever it raises
        raise CheckpointError(f"{path} cannot be read as a safetensors file of weights ({error})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not of an xt model")
    try:
        return model_config(json.loads(metadata["config"])), shapes, described_base(metadata)
    except (KeyError, RecursionError, ValueError) as error:
        raise unknown_model(path, error) from error


def _count(shape: tuple[int, ...]) -> int:
    number = 1
    for side in shape:
        number *= side
    return number
