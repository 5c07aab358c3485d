"""Parameters of timm's networks under the names of timm's whole models, which its rules and its weights are for."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from timm.optim import param_groups_layer_decay
from torch import nn

from xt.region_encoders.layers import NetworkParameter


class _UnderTimmsNames:
    """Parameters of a network's feature-map form under the names that timm's whole model has for them.

    timm's rules for what a layer is are patterns of the whole model's names; its feature-map forms are other
    classes with names such as `stages_0.blocks.1` or `model.blocks.1`.
    """

    def __init__(self, network: nn.Module, whole: nn.Module) -> None:
        modules = {name for name, _ in whole.named_modules()}
        self._named = [
            (original_name(name, modules), parameter) for name, parameter in network.named_parameters()
        ]
        if hasattr(whole, "group_matcher"):
            self.group_matcher = whole.group_matcher
        self.pretrained_cfg = getattr(whole, "pretrained_cfg", {})

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self._named)


def layers_by_timm(network: nn.Module, whole: nn.Module) -> list[NetworkParameter]:
    """By timm's own groups, of which the learning rates tell the layers."""
    renamed: Any = _UnderTimmsNames(network, whole)
    exempt: Any = getattr(whole, "no_weight_decay", set)
    groups = param_groups_layer_decay(
        renamed, weight_decay=1.0, layer_decay=0.5, no_weight_decay_list=exempt()
    )
    return [
        NetworkParameter(parameter, round(-math.log2(group["lr_scale"])), group["weight_decay"] > 0)
        for group in groups
        for parameter in group["params"]
    ]


def original_name(name: str, modules: set[str]) -> str:
    name = name.removeprefix("model.")
    first, dot, rest = name.partition(".")
    parts = first.split("_")
    # "stages_0" was flattened from "stages.0", "stem_in_conv" from "stem.in_conv"; "patch_embed" was not flattened.
    for joints in itertools.product("_.", repeat=len(parts) - 1):
        original = "".join([parts[0], *map("".join, zip(joints, parts[1:], strict=True))])
        if original in modules:
            return original + dot + rest
    return name
