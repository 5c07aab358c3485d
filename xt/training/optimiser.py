"""AdamW with timm's layer decay over the region encoder, and the learning rate as a function of progress."""

import math
from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from xt.model.xt import XT


def make_optimiser(
    model: XT,
    *,
    lr: float,
    encoder_lr_factor: float = 1.0,
    layer_decay: float = 0.75,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; each group's `initial_lr` is its highest learning rate."""
    groups = parameter_groups(
        model,
        lr=lr,
        encoder_lr_factor=encoder_lr_factor,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
    )
    return torch.optim.AdamW(groups, lr=lr, betas=betas)


def parameter_groups(
    model: XT, *, lr: float, encoder_lr_factor: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The model's trainable parameters, each in one group with its learning rate and weight decay.

    The region encoder's backbone learns at `lr * encoder_lr_factor` in its last layer and at a factor of
    `layer_decay` less in each layer before; what a layer is, timm says. All else (the projection to tokens,
    context encoder, head) starts from chance and learns at `lr`. Biases, norms and what timm exempts have no
    weight decay.
    """
    backbone = model.region_encoder.backbone
    groups = []
    whole = _whole_timm_model(model.config.encoder, dict(model.config.encoder_options))
    renamed: Any = _UnderTimmsNames(backbone, whole)
    exempt_names: Any = getattr(whole, "no_weight_decay", set)
    for group in param_groups_layer_decay(
        renamed, weight_decay=weight_decay, layer_decay=layer_decay, no_weight_decay_list=exempt_names()
    ):
        group["initial_lr"] = lr * encoder_lr_factor * group.pop("lr_scale")
        groups.append(group)
    in_backbone = {id(parameter) for parameter in backbone.parameters()}
    rest: Any = _Named(
        (name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in in_backbone
    )
    groups += [
        {**group, "initial_lr": lr}
        for group in param_groups_weight_decay(rest, weight_decay, no_weight_decay_list=("*bias",))
    ]
    return [{**group, "lr": group["initial_lr"]} for group in groups]


def learning_rate_factor(progress: float, *, warmup: float, final_lr_factor: float) -> float:
    """What the highest learning rate is multiplied with: a straight rise, then half a cosine.

    Args:
        progress: share of the run that is done, in [0, 1].
        warmup: share of the run that the rise takes, in [0, 1).
        final_lr_factor: the factor at the end, in [0, 1].
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        # Not from nothing: the first step should move, too.
        return max(progress / warmup, 0.01)
    cosine = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    return final_lr_factor + (1 - final_lr_factor) * cosine


class _Named:
    """Parameters with names, in the one form in which timm asks a module for them."""

    def __init__(self, named: Iterator[tuple[str, nn.Parameter]]) -> None:
        self._named = list(named)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self._named)


class _UnderTimmsNames(_Named):
    """The feature-map form of a backbone under the parameter names of timm's whole model.

    timm's rules for what a layer is are patterns of the whole model's names; its feature-map forms are other
    classes with names such as `stages_0.blocks.1` or `model.blocks.1`.
    """

    def __init__(self, backbone: nn.Module, whole: nn.Module) -> None:
        modules = {name for name, _ in whole.named_modules()}
        super().__init__(
            (_original_name(name, modules), parameter) for name, parameter in backbone.named_parameters()
        )
        if hasattr(whole, "group_matcher"):
            self.group_matcher = whole.group_matcher
        self.pretrained_cfg = getattr(whole, "pretrained_cfg", {})


def _original_name(name: str, modules: set[str]) -> str:
    name = name.removeprefix("model.")
    first, dot, rest = name.partition(".")
    parts = first.split("_")
    # "stages_0" was flattened from "stages.0"; "patch_embed" was not flattened.
    for cut in range(len(parts) - 1, 0, -1):
        original = ".".join(["_".join(parts[:cut]), *parts[cut:]])
        if original in modules:
            return original + dot + rest
    return name


def _whole_timm_model(encoder: str, options: dict[str, Any]) -> nn.Module:
    # Asked for names and rules only, so it needs no memory for weights.
    try:
        with torch.device("meta"):
            return timm.create_model(encoder, **options)
    except (RuntimeError, NotImplementedError):
        # Some models compute with real values while they are made.
        return timm.create_model(encoder, **options)
