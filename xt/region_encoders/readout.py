"""From what a network makes of a region to its tokens: what they are made of, how many, and how cells are pooled."""

import math

from torch import nn

from xt.errors import ConfigError

PATCHES, CLASS, CLASS_AND_MEAN, LAST_MAP = "patches", "class", "class_and_mean", "last_map"
READOUTS = (PATCHES, CLASS, CLASS_AND_MEAN, LAST_MAP)
"""What a token is made of: `patches`, the cells of the last map behind the network's last norm, pooled; `class`, the
network's own token of the region as a whole; `class_and_mean`, that one and the mean of the token's cells side by side;
`last_map`, the cells before that norm, as models had them that were made before there was a choice."""


def pooling_of(readout: str, pooling: str | None) -> str:
    """How cells are pooled: as it is said, else as the readout has it.

    Raises:
        ConfigError: the two contradict each other.
    """
    if readout == CLASS_AND_MEAN and pooling not in (None, "mean"):
        raise ConfigError(
            f"readout 'class_and_mean' pools by the mean, got pooling {pooling!r}: leave it out"
        )
    return pooling or ("mean" if readout == CLASS_AND_MEAN else "max")


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
