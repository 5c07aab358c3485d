"""A trained model and its run's configuration, from whatever a run left."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xt.configuration import RunConfig
from xt.configuration_parser import config_from_dict, load_config
from xt.errors import CheckpointError
from xt.model import XT, build_model, load_model


def load_trained(path: str | Path) -> tuple[XT, RunConfig | None]:
    """The model, and how it was trained if that is known.

    Args:
        path: a run folder, a `model.safetensors` (the run's `config.yaml` may lie beside it), or a `.ckpt`.
    Raises:
        CheckpointError: none of these.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            raise CheckpointError(
                f"{path} has no model.safetensors; is it the folder of a finished `xt train`?"
            )
        path = path / "model.safetensors"
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    if path.suffix == ".ckpt":
        return _from_lightning(path)
    beside = path.parent / "config.yaml"
    return load_model(path), load_config(beside) if beside.exists() else None


def _from_lightning(path: Path) -> tuple[XT, RunConfig]:
    try:
        # Plain values only: a checkpoint from elsewhere must not run code.
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        config = config_from_dict(stored["xt_config"], str(path))
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of `xt train` ({error.__class__.__name__})"
        ) from None
    model = build_model(replace(config.model, pretrained=False))
    model.config = config.model
    prefix = "model."
    model.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in stored["state_dict"].items()
            if name.startswith(prefix)
        }
    )
    return model, config
