"""A trained model and its run's configuration, from whatever a run left."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xt.config.parser import config_from_dict, load_config
from xt.config.run import RunConfig
from xt.errors import CheckpointError, ConfigError
from xt.hub.place import local_path
from xt.model.exported import refuse_exported
from xt.model.files import as_of_then, load_model, model_with_weights, unknown_model
from xt.model.xt import XT
from xt.training.fold_files import models_of

# Of the model's weights among those that Lightning stores.
_PREFIX = "model."


class Checkpoint(NamedTuple):
    """What is read of a `.ckpt` file besides what Lightning reads of it.

    Attributes:
        config: of the run.
        weights: of the model, by their names there.
    """

    config: RunConfig
    weights: dict[str, Tensor]


def load_trained(path: str | PathLike[str]) -> tuple[XT, RunConfig | None]:
    """The model, and how it was trained if that is known.

    Args:
        path: a run folder, a `model.safetensors` (the run's `config.yaml` may lie beside it), a `.ckpt`, or a place on
            the hub as "hf://OWNER/NAME".
    Raises:
        CheckpointError: none of these.
    """
    path = local_path(path)
    refuse_exported(path)
    if path.is_dir():
        models = models_of(path)
        if models:
            raise CheckpointError(
                f"{path} holds {len(models)} models of folds; name one of them, such as {models[0]}"
            )
        if not (path / "model.safetensors").exists():
            raise CheckpointError(
                f"{path} has no model.safetensors; is it the folder of a finished `xt train`?"
            )
        path = path / "model.safetensors"
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    if path.suffix == ".ckpt":
        config, weights = read_checkpoint(path)
        model = model_with_weights(config.model, weights, path)
        model.config = config.model
        return model, config
    model, beside = load_model(path), path.parent / "config.yaml"
    if not beside.exists():
        return model, None
    config = load_config(beside)
    # A run of before there were readouts does not say which it has; its model does.
    made = replace(config.model, readout=config.model.readout or model.config.readout)
    return model, replace(config, model=made)


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint of `xt train`, its configuration checked as that of a run.

    Raises:
        CheckpointError: it is none, or was changed.
    """
    try:
        # Plain values only: a checkpoint from elsewhere must not run code.
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        values, state = stored["xt_config"], stored["state_dict"]
        weights = {
            name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)
        }
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise CheckpointError(
            f"{path} is not a checkpoint of `xt train` ({error.__class__.__name__})"
        ) from None
    wrong = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(
            f"{path}: expected numbers in {wrong[0]}, got {type(state[_PREFIX + wrong[0]]).__name__}"
        )
    try:
        if isinstance(values, Mapping) and "model" in values:
            values = {**values, "model": as_of_then(values["model"])}
        return Checkpoint(config_from_dict(values, "its configuration"), weights)
    except ConfigError as error:
        raise unknown_model(path, error) from error
