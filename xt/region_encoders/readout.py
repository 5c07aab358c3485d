"""From the last feature map of a region to its tokens: how many there are, and how cells are pooled to them."""

import math

from torch import nn

from xt.errors import ConfigError


def side_of_tokens(tokens_per_region: int | None, side: int, name: str, region_size: int) -> int:
    """Tokens along a side of a region.

    Args:
        tokens_per_region: a square number; None for one token per cell.
        side: of the last feature map, in cells, without its halo.
        name: of the network, for messages.

    Raises:
        ConfigError: it is no square number, or more than there are cells.
    """
    if tokens_per_region is None:
        return side
    root = math.isqrt(max(tokens_per_region, 0))
    if root < 1 or root**2 != tokens_per_region or root > side:
        raise ConfigError(
            f"tokens_per_region must be a square number from 1 to {side**2} ({name} makes a map of {side} x {side} "
            f"from a region of {region_size} pixels), got {tokens_per_region}"
        )
    return root


def pooling_to(tokens_per_side: int, side: int, pooling: str) -> nn.Module:
    """(regions, channels, side, side) -> (regions, channels, tokens per side, tokens per side).

    Raises:
        ConfigError: there is no such pooling.
    """
    if pooling not in ("max", "mean"):
        raise ConfigError(f"pooling must be 'max' or 'mean', got {pooling!r}")
    if tokens_per_side == side:
        return nn.Identity()
    pool = nn.AdaptiveMaxPool2d if pooling == "max" else nn.AdaptiveAvgPool2d
    return pool(tokens_per_side)
