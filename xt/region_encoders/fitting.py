"""Which regions a network takes: told by running it on an empty one, and on those of other sizes where it does not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.region_encoders.base import RegionEncoder

# Region sizes looked at below and above one that does not fit.
_TRIES = 3
# Of a network whose strides are not known, as it takes no region: most have been made for multiples of this.
_USUAL_STRIDE = 32


def maps_of_a_region(encoder: "RegionEncoder") -> tuple[list[Tensor], Tensor | None]:
    """The maps of an empty region, and the class token.

    Raises:
        ConfigError: the network cannot take such regions, or does not wholly see them.
    """
    try:
        result = look(encoder, encoder.network, encoder.window_size)
        maps = encoder.as_maps(result)
    except Exception as error:  # networks raise whatever the misfit leads to
        raise ConfigError(
            f"{encoder.name} cannot take {_regions(encoder)} ({' '.join(str(error).split())}){_hint(encoder)}"
        ) from error
    if not _see_the_end(maps):
        raise ConfigError(
            f"{encoder.name} would not see the last rows and columns of {_regions(encoder)}, as its strides do not "
            f"divide them{_hint(encoder)}"
        )
    return maps, encoder.class_token(result)


def strides_of(encoder: "RegionEncoder", maps: Sequence[Tensor]) -> list[int]:
    """Told by the sides of the maps.

    Raises:
        ConfigError: they do not tell.
    """
    sides = [features.shape[-1] for features in maps]
    if any(encoder.window_size % side for side in sides) or sides != sorted(sides, reverse=True):
        raise ConfigError(
            f"{encoder.name} makes maps of {', '.join(f'{side} x {side}' for side in sides)} cells from "
            f"{_regions(encoder)}: expected the finest first, and sides that divide the region's"
        )
    return [encoder.window_size // side for side in sides]


def look(encoder: "RegionEncoder", network: nn.Module, size: int) -> Any:
    """What a network makes of a region of zeros whose last pixel is not a number; no statistics are counted."""
    like = first_number(network, encoder.scaling.mean)
    region = torch.zeros(1, encoder.in_channels, size, size, device=like.device, dtype=like.dtype)
    region[..., -1, -1] = torch.nan
    was_training = network.training
    try:
        with torch.no_grad():
            return network.eval()(region)
    finally:
        network.train(was_training)


def first_number(network: nn.Module, otherwise: Tensor) -> Tensor:
    """A weight of a network that is no code, which says where it is and what it computes in."""
    return next((weight for weight in network.parameters() if weight.is_floating_point()), otherwise)


def _regions(encoder: "RegionEncoder") -> str:
    halo = f" with a halo of {encoder.halo}" if encoder.halo else ""
    return f"regions of {encoder.region_size} pixels{halo}"


def _hint(encoder: "RegionEncoder") -> str:
    """The nearest region sizes that this network does take, below and above."""
    stride = getattr(encoder, "strides", [_USUAL_STRIDE])[-1]
    below, above = encoder.region_size // stride, encoder.region_size // stride + 1
    found = [
        next((size * stride for size in sizes if _would_take(encoder, size * stride)), None)
        for sizes in (range(below, max(0, below - _TRIES), -1), range(above, above + _TRIES))
    ]
    sizes = [str(size) for size in found if size]
    if not sizes and encoder.made_for and _would_take(encoder, encoder.made_for):
        sizes = [str(encoder.made_for)]
    return f": set region_size to {' or '.join(sizes)}" if sizes else ""


def _would_take(encoder: "RegionEncoder", region_size: int) -> bool:
    window = region_size + 2 * encoder.halo
    try:
        return _see_the_end(encoder.as_maps(look(encoder, encoder.network_for(window), window)))
    except Exception:  # see `maps_of_a_region`
        return False


def _see_the_end(maps: Sequence[Tensor]) -> bool:
    """Whether each map depends on the region's last pixel; if so, on all others, too.

    NaN gets through every weight, even through those that a fresh network starts at zero. What a patch or a stride
    that does not divide the region leaves out lies at its end.
    """
    return all(features.is_meta or bool(features.isnan().any()) for features in maps)
