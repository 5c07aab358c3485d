"""Which layer a network's parameters belong to, from the pixels on: what a learning rate that decays by layer asks."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn


class NetworkParameter(NamedTuple):
    """A parameter of a region encoder's network.

    Attributes:
        layers_above: how many of the network's layers come behind its own; 0 for the last.
        decays: whether weight decay is meant for it: not for biases, norms and scales.
    """

    parameter: nn.Parameter
    layers_above: int
    decays: bool


def in_order(network: nn.Module) -> list[NetworkParameter]:
    """The parameters of a network whose parts stand in the order in which they compute, as they mostly do.

    A layer is an item of a list or sequence of modules, the outermost there is, or a part that stands beside such a
    list.
    """
    layers = [layer for layer in _layers(network) if any(True for _ in layer.parameters())]
    above = {
        id(parameter): len(layers) - 1 - number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    # A parameter of the network itself, such as a class token or positions, is there from the beginning.
    first = max(len(layers) - 1, 0)
    return [
        NetworkParameter(parameter, above.get(id(parameter), first), parameter.ndim > 1)
        for parameter in network.parameters()
    ]


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from part
        elif any(isinstance(inner, nn.Sequential | nn.ModuleList) for inner in part.modules()):
            yield from _layers(part)
        else:
            yield part
