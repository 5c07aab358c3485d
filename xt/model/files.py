"""Models from files. A file may hold anything: what it says is checked before memory is spent on it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from xt.errors import CheckpointError, ConfigError, XTError
from xt.hub.place import WEIGHTS, local_path
from xt.model.base_weights import Base, described_base, digests_of, hash_of, is_of_base
from xt.model.build import build_model, complete
from xt.model.config import ModelConfig
from xt.model.exported import refuse_exported
from xt.model.weights_file import FORMAT
from xt.model.xt import XT
from xt.option_types import from_dict
from xt.region_encoders.hub import repository_of
from xt.region_encoders.pretrained import named_file
from xt.region_encoders.readout import LAST_MAP
from xt.region_encoders.weight_files import read_safetensors
from xt.region_encoders.weights import take_file
from xt.region_encoders.without_memory import without_memory

_PYRAMID = "head.pyramid"


def load_model(path: str | PathLike[str]) -> XT:
    """Read a model written by `XT.save`; nothing in the file is executed.

    Args:
        path: of the file, or of a folder that holds it under the name model.safetensors; or a place on the Hugging Face
            hub, "hf://OWNER/NAME" or "hf://OWNER/NAME@REVISION".

    Raises:
        CheckpointError: the file is missing, not such a file, what it says about its model is not what
            `ModelConfig` takes, or its weights are not those of its model.
    """
    path = local_path(path)
    refuse_exported(path)
    path = path / WEIGHTS if path.is_dir() else path
    metadata, weights = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but not of an xt model (its format is {metadata.get('format')!r}, "
            f"expected {FORMAT!r})"
        )
    try:
        config = model_config(json.loads(metadata["config"]))
        base = described_base(metadata)
    except (KeyError, RecursionError, ValueError) as error:
        raise unknown_model(path, error) from error
    return model_with_weights(config, weights, path, base)


def model_config(values: Any) -> ModelConfig:
    """The description of a model from a file.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is out of range.
    """
    return from_dict(ModelConfig, as_of_then(values), "model")


def as_of_then(values: Any) -> Any:
    """A description from a file of before there were readouts, with the one that all models had then."""
    if not isinstance(values, Mapping) or "readout" in values:
        return values
    return {**values, "readout": LAST_MAP, "pooling": values.get("pooling", "max")}


def model_with_weights(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    path: str | PathLike[str],
    base: Mapping[str, Any] | None = None,
) -> XT:
    """The model that a file describes, with the file's weights.

    Args:
        base: what it says of the weights that it leaves out, see `xt.model.base_weights`; None where it holds all.

    Raises:
        CheckpointError: there is no such model, these are not its weights, or its base is not to be had.
    """
    # Weights come from the file, so the pretrained ones need not be fetched.
    bare = replace(config, pretrained=False)
    try:
        # First without memory: one odd number could ask for more than there is.
        with without_memory():
            wanted = build_model(bare).state_dict()
            if _PYRAMID in _parts(wanted) - _parts(weights):
                # Made before plain networks had one.
                config = replace(config, head_options={**config.head_options, "pyramid": False})
                bare = replace(config, pretrained=False)
                wanted = build_model(bare).state_dict()
    except Exception as error:  # a size that no tensor can have ends in whatever PyTorch raises
        raise unknown_model(path, error) from error
    if base is not None:
        wanted = {name: value for name, value in wanted.items() if name in weights or not is_of_base(name)}
    _check_weights(weights, wanted, path)
    try:
        model = build_model(bare) if base is None else _with_base(config, weights, base, path)
        model.load_state_dict(weights, strict=base is None)
    except CheckpointError:
        raise
    except (XTError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights in {path} are not those of the model it describes: {error}"
        ) from error
    return model


def _with_base(
    config: ModelConfig, weights: Mapping[str, Tensor], said: Mapping[str, Any], path: str | PathLike[str]
) -> XT:
    """The model of a file that leaves its base out.

    The base is looked for where the run found it, and beside the file.

    Raises:
        CheckpointError: the base is not there, or is another one; it is said what to fetch.
    """
    beside = Path(path).parent
    wanted = f"sha256 {said['sha256'][:12]}"
    try:
        pretrained = _found(said["pretrained"], beside)
        model = build_model(replace(config, pretrained=pretrained, adapter=None, encoder_dtype="float32"))
        file = _found(said["file"], beside)
        if file is not None:
            take_file(model.region_encoder, named_file(str(file), "its base"))
        complete(model.region_encoder, config)
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(
            f"{path} holds what was trained beside the weights of {config.encoder}, not these themselves ({wanted}), "
            f"and they are not to be had: {error}; or write the model with everything in it where they are: `xt train "
            "--whole`, or load_model(path).save(path, whole=True)"
        ) from error
    digests = digests_of(model.state_dict())
    left_out = sorted(name for name in digests if name not in weights)
    if len(left_out) != said["tensors"] or hash_of(digests, left_out) != said["sha256"]:
        place = said["file"] or (
            said["pretrained"] if isinstance(said["pretrained"], str) else config.encoder
        )
        raise CheckpointError(
            f"{path} was trained beside other weights than those of {place} here: it wants those of {wanted}, found "
            f"{hash_of(digests, left_out)[:12]}"
        )
    model.base = Base(said["pretrained"], said["file"], digests)
    model.config = config
    return model


def _found(place: Any, beside: Path) -> Any:
    """A file or folder where it was, or beside the model; a name of the hub as it is."""
    if not isinstance(place, str) or Path(place).exists() or repository_of(place) is not None:
        return place
    near = beside / Path(place).name
    if near.exists():
        return str(near)
    raise CheckpointError(f"there is no {place}, and none of that name in {beside}: put it there")


def unknown_model(path: str | PathLike[str], error: Exception) -> CheckpointError:
    """What is said of a file whose configuration makes no model."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return CheckpointError(
        f"the model that {path} describes is not known here ({reason}): it was written by another version of xt, or "
        "something has changed the file"
    )


def _check_weights(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | PathLike[str]
) -> None:
    wrong = [
        f"{name} is {_shape(found.get(name))} and should be {_shape(wanted.get(name))}"
        for name in sorted(found.keys() | wanted.keys())
        if _shape(found.get(name)) != _shape(wanted.get(name))
    ]
    if wrong:
        raise CheckpointError(
            f"the weights in {path} are not those of the model it describes: {len(wanted)} are wanted, {len(wrong)} do "
            f"not fit, such as {wrong[0]}"
        )


def _parts(weights: Mapping[str, Tensor]) -> set[str]:
    return {".".join(name.split(".")[:2]) for name in weights}


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"
