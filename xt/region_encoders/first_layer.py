"""The filters of a network's first layer, for images of other channels than its weights were made for."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from xt.region_encoders.bands import Bands

Naming = Callable[[Mapping[str, Tensor], Bands], Mapping[str, Tensor]]
"""Weights under the names of a file, and the channels that they know -> under those of a network, for its channels."""


def filters_for(bands: Bands, weight: Tensor, wanted: torch.Size) -> Tensor:
    """The first layer's filters for some channels.

    Args:
        weight: (filters, known channels, height, width), or as many times the channels where a first step lays the
            pixels of a square into them.
        wanted: the shape that the network has.

    Returns:
        The weights themselves where they are no filters: their shape then says that they do not fit.

    Raises:
        ConfigError: the weights have another number of channels than are named.
    """
    folded = max(1, wanted[1] // bands.count) if len(wanted) == 4 else 1
    if weight.dim() != 4 or len(wanted) != 4 or weight.shape[1] % folded:
        return weight
    base = weight.shape[1] // folded
    if base == bands.count and (bands.names in (None, bands.known) or base != len(bands.known)):
        return weight
    mix = torch.tensor(bands.mix(base), device=weight.device)
    parts = weight.float().unflatten(1, (folded, base))
    return torch.einsum("cb,ogbhw->ogchw", mix, parts).flatten(1, 2).to(weight.dtype)
