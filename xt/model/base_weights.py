"""What of a region encoder's network is as it was before training: left out of files, and found again.

A base is the network's weights as a pretraining has left them. A file of a model that was trained beside it names it by
where it is from and by a hash of what the file leaves out.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_NETWORK = "region_encoder.backbone."


@dataclass(frozen=True)
class Base:
    """Where a network's weights are from, and what they were.

    Attributes:
        pretrained: as `ModelConfig.pretrained`.
        file: of weights, put in behind them; None for none.
        digests: of each tensor of the network by its name in the model.
    """

    pretrained: bool | str
    file: str | None
    digests: Mapping[str, str]


def base_of(weights: Mapping[str, Tensor], pretrained: bool | str, file: str | None) -> Base | None:
    """The network's weights among those of a model as they are now; None where nobody could find them again."""
    return Base(pretrained, file, digests_of(weights)) if pretrained or file is not None else None


def without_base(
    weights: Mapping[str, Tensor], base: Base | None
) -> tuple[Mapping[str, Tensor], dict[str, Any] | None]:
    """The weights of a model that its file has to hold, and what it says of the others; None where it holds all."""
    if base is None:
        return weights, None
    now = digests_of({name: weights[name] for name in base.digests if name in weights})
    left_out = sorted(name for name, digest in now.items() if digest == base.digests[name])
    if not left_out:
        return weights, None
    held = {name: value for name, value in weights.items() if name not in set(left_out)}
    said = {
        "pretrained": base.pretrained,
        "file": base.file,
        "tensors": len(left_out),
        "sha256": hash_of(base.digests, left_out),
    }
    return held, said


def described_base(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What a file says of the weights that it leaves out.

    Raises:
        ValueError: something that is no such description.
    """
    if "base" not in metadata:
        return None
    said = json.loads(metadata["base"])
    kinds: dict[str, tuple[type, ...]] = {
        "pretrained": (bool, str),
        "file": (str, type(None)),
        "tensors": (int,),
        "sha256": (str,),
    }
    if not isinstance(said, dict) or any(not isinstance(said.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"its base is {said!r}")
    return said


def is_of_base(name: str) -> bool:
    """Whether a weight of a model is one of its network's."""
    return name.startswith(_NETWORK)


def digests_of(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Of the network's tensors, by their type, shape and bytes."""
    return {
        name: hashlib.sha256(_header(value) + _bytes(value)).hexdigest()
        for name, value in weights.items()
        if is_of_base(name)
    }


def _header(value: Tensor) -> bytes:
    return f"{value.dtype} {tuple(value.shape)}\n".encode()


def _bytes(value: Tensor) -> bytes:
    # Of half precision NumPy knows no numbers, but bytes.
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def hash_of(digests: Mapping[str, str], names: list[str]) -> str:
    """Of some of them together."""
    lines = "".join(f"{name} {digests[name]}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()
