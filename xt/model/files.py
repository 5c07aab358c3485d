"""Models from files. A file may hold anything: what it says is checked before memory is spent on it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from xt.errors import CheckpointError, XTError
from xt.model.build import build_model
from xt.model.config import ModelConfig
from xt.model.weights_file import FORMAT, read_safetensors
from xt.model.xt import XT
from xt.option_types import from_dict


def load_model(path: str | PathLike[str]) -> XT:
    """Read a model written by `XT.save`; nothing in the file is executed.

    Raises:
        CheckpointError: the file is missing, not such a file, what it says about its model is not what
            `ModelConfig` takes, or its weights are not those of its model.
    """
    metadata, weights = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but not of an xt model (its format is {metadata.get('format')!r}, "
            f"expected {FORMAT!r})"
        )
    try:
        config = model_config(json.loads(metadata["config"]))
    except (KeyError, RecursionError, ValueError) as error:
        raise unknown_model(path, error) from error
    return model_with_weights(config, weights, path)


def model_config(values: Any) -> ModelConfig:
    """The description of a model from a file.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is out of range.
    """
    return from_dict(ModelConfig, values, "model")


def model_with_weights(config: ModelConfig, weights: Mapping[str, Tensor], path: str | PathLike[str]) -> XT:
    """The model that a file describes, with the file's weights.

    Raises:
        CheckpointError: there is no such model, or these are not its weights.
    """
    # Weights come from the file, so the pretrained ones need not be fetched.
    config = replace(config, pretrained=False)
    try:
        # First without memory: one odd number could ask for more than there is.
        with torch.device("meta"):
            wanted = build_model(config).state_dict()
    except Exception as error:  # a size that no tensor can have ends in whatever PyTorch raises
        raise unknown_model(path, error) from error
    _check_weights(weights, wanted, path)
    try:
        model = build_model(config)
        model.load_state_dict(weights)
    except (XTError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights in {path} are not those of the model it describes: {error}"
        ) from error
    return model


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


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"
