"""What tells one model from another."""

import hashlib
import json
from dataclasses import asdict

import torch

from xt.model.xt import XT


def model_identity(model: XT) -> str:
    """sha256 of a model's configuration and weights, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since NumPy has no 16-bit brain floats.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
