"""AdamW with layer decay over the region encoder, and the learning rate as a function of progress."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
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

    The region encoder's network learns at `lr * encoder_lr_factor` in its last layer and at a factor of
    `layer_decay` less in each layer before; what a layer is, it says itself. All else (the projection to tokens,
    context encoder, head) starts from chance and learns at `lr`. Biases, norms and what the region encoder exempts
    have no weight decay.
    """
    network: dict[tuple[int, bool], dict[str, Any]] = {}
    encoder = model.region_encoder
    for parameter, layers_above, decays in encoder.layers():
        if parameter.requires_grad:
            rate = lr * encoder_lr_factor * layer_decay**layers_above
            new = {"weight_decay": weight_decay if decays else 0.0, "params": [], "initial_lr": rate}
            network.setdefault((layers_above, decays), new)["params"].append(parameter)
    in_network = {id(parameter) for parameter in encoder.network.parameters()}
    rest: Any = _Named(
        (name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in in_network
    )
    fresh = param_groups_weight_decay(rest, weight_decay, no_weight_decay_list=("*bias",))
    groups = [*network.values(), *({**group, "initial_lr": lr} for group in fresh)]
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
