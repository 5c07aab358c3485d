"""Models on disk: one safetensors file of the weights, with a description of the model in its metadata as JSON."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from xt.output import atomic_path

FORMAT = "xt model 1"
"""What such files say that they are."""


def write_model(
    path: str | PathLike[str],
    description: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    base: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and the description of their model, or nothing at all.

    Args:
        base: what is said of weights that are left out; None where none are.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "config": json.dumps(description)}
    metadata |= {} if base is None else {"base": json.dumps(base)}
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(safetensors.torch.save(tensors, metadata))
