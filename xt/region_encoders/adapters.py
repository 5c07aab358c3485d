"""Networks of which a part is trained: frozen weights, low-rank adapters beside them, activations computed again."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from xt.errors import ConfigError
from xt.region_encoders.layers import NetworkParameter
from xt.region_encoders.trained import Trained

# Of what peft puts into a network.
_OURS = ("lora_A", "lora_B", "lora_magnitude_vector")
_ATTENTION = ("attn", "attention")


def add_adapter(network: nn.Module, adapter: Trained, run: Callable[[], object], name: str) -> None:
    """Put low-rank matrices beside the weights of a network, by `peft`; its answers stay as they are until they learn.

    They stand beside the linear layers of its attention, as where they were first shown; of a network without any, or
    whose attention takes their weights without calling them, beside all its linear layers; of one that has none either
    beside its convolutions, but not those of each channel alone.

    Args:
        run: runs the network once.
        name: of the network, for messages.

    Raises:
        ConfigError: `peft` is not installed, or the network has no such layers.
    """
    peft = _peft(adapter)
    targets = adapted_layers(network, run)
    if not targets:
        raise ConfigError(
            f"{name} has no layers that {adapter} could stand beside; train its last:N layers instead"
        )
    learning = [parameter.requires_grad for parameter in network.parameters()]
    settings = peft.LoraConfig(
        r=adapter.number,
        # Updates are then as large as they are learned, whatever the rank.
        lora_alpha=adapter.number,
        target_modules=targets,
        use_dora=adapter.kind == "dora",
        bias="none",
    )
    own = list(network.parameters())
    peft.inject_adapter_in_model(settings, network)
    for parameter, learns in zip(own, learning, strict=True):
        parameter.requires_grad_(learns)
    for parameter in adapter_parameters(network):
        # Where frozen weights lie in half precision: what learns never does.
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def adapted_layers(network: nn.Module, run: Callable[[], object]) -> list[str]:
    """The names of the layers that adapters stand beside, see `add_adapter`."""
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    called = _called(layers, run)
    attention = [
        name
        for name, module in layers.items()
        if isinstance(module, nn.Linear) and any(word in name.lower() for word in _ATTENTION)
    ]
    if attention and called.issuperset(attention):
        return attention
    linear = [name for name, module in layers.items() if isinstance(module, nn.Linear) and name in called]
    return linear or [name for name in layers if name in called]


def _called(layers: Mapping[str, nn.Module], run: Callable[[], object]) -> set[str]:
    """Those that are called as the network runs; some networks only take a layer's weight, and pass an adapter by."""
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: called.add(name))
        for name, module in layers.items()
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return called


def has_adapter(network: nn.Module) -> bool:
    return next(adapter_parameters(network), None) is not None


def adapter_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """What was put into a network by `add_adapter`."""
    return (
        parameter
        for name, parameter in network.named_parameters()
        if any(part in _OURS for part in name.split("."))
    )


def choose_trained(
    network: nn.Module, trained: Trained, layers: Iterable[NetworkParameter], name: str
) -> None:
    """Have a part of a network's weights learn, and the others stay as they are.

    Args:
        layers: all of the network's parameters with how deep they lie.
        name: of the network, for messages.

    Raises:
        ConfigError: it has no adapter, or fewer layers than are to be trained.
    """
    adapters = set(map(id, adapter_parameters(network)))
    layers = list(layers)
    if trained.is_adapter and not adapters:
        raise ConfigError(f"{name} has no adapter: make the model with adapter={str(trained)!r}")
    deepest = 1 + max((layer.layers_above for layer in layers), default=0)
    if trained.kind == "last" and trained.number > deepest:
        raise ConfigError(f"{name} has {deepest} layers, fewer than the {trained.number} of {trained}")
    near = {id(layer.parameter) for layer in layers if layer.layers_above < trained.number}
    for parameter in network.parameters():
        own = id(parameter) not in adapters
        learns = {
            "all": True,
            "none": False,
            "last": own and id(parameter) in near,
            "norm_and_bias": own and parameter.ndim <= 1,
        }.get(trained.kind, not own)
        parameter.requires_grad_(learns)


def still_parts_evaluate(module: nn.Module) -> None:
    """What does not learn computes as in evaluation: it draws nothing, and counts no statistics."""
    parameters = list(module.parameters())
    if not parameters:
        return
    if not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for part in module.children():
        still_parts_evaluate(part)


def checkpoint_activations(network: nn.Module, name: str) -> None:
    """Have a network keep the activations between its blocks alone, and compute those inside them again.

    Raises:
        ConfigError: it does not know how.
    """
    for part in (network, getattr(network, "model", None)):
        switch = getattr(part, "set_grad_checkpointing", None) or getattr(
            part, "gradient_checkpointing_enable", None
        )
        if switch is not None:
            switch()
            return
    raise ConfigError(
        f"{name} cannot compute its activations again block by block: leave train.checkpoint_activations out, and take "
        "smaller regions or a smaller train.region_batch"
    )


def _peft(adapter: Trained) -> Any:
    # It loads whatever it works with, of which some say things about PyTorch that nobody here can change.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            f"{adapter} is made by the package peft, which is not installed: pip install 'xt-vision[adapters]'"
        ) from error
    return peft
