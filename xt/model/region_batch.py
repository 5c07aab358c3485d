"""How many regions a model looks at in one go, where nobody said."""

import torch
from torch import Tensor

from xt.region_encoders.base import RegionEncoder
from xt.streaming.footprint import footprint
from xt.streaming.limits import RegionLimits
from xt.streaming.memory import WORKING_SHARE, free_bytes

# Beyond these, more regions at a time are no faster: a CPU's caches are long full, a GPU's cores all busy.
LARGEST = {"cpu": 8}
LARGEST_ELSEWHERE = 64
# What a backward pass takes over the graph it goes through.
_BACKWARD = 1.5


def default_region_batch(encoder: RegionEncoder, limits: RegionLimits) -> int:
    """A power of two that fits into what the encoder's device has free; found once, then remembered in `limits`.

    One region's memory is found without computing, with a graph if gradients are on and wanted.
    """
    device = encoder.device
    training = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in encoder.parameters())
    autocast = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
    situation = (device, training, autocast, encoder.dtype)
    return limits.chosen(situation, lambda: _fitting(encoder, device, training))


def power_of_two(limit: float) -> int:
    """The largest that is at most `limit`, at least 1."""
    return 1 << max(int(limit), 1).bit_length() - 1


def one_region(encoder: RegionEncoder, regions: int = 1) -> Tensor:
    """Pixels of as many regions, without values of any meaning."""
    size = encoder.window_size
    device = encoder.device
    return torch.empty(regions, encoder.in_channels, size, size, dtype=torch.uint8, device=device)


def _fitting(encoder: RegionEncoder, device: torch.device, training: bool) -> int:
    largest = LARGEST.get(device.type, LARGEST_ELSEWHERE)
    try:
        found = footprint(encoder, lambda: (one_region(encoder),), graph=training, backward=False)
    except RuntimeError:
        # A network that looks at values cannot be followed without them. If the usual number is too many, the
        # streamed map halves it.
        return largest
    one = found.peak_bytes * (_BACKWARD if training else 1)
    return power_of_two(min(largest, WORKING_SHARE * free_bytes(device) / max(one, 1)))
