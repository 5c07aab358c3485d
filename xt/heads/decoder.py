"""Feature maps of all strides -> one map of the finest: a feature pyramid's way down."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.norm import LayerNorm2d


class FeatureDecoder(nn.Module):
    """From the coarsest map to the finest, each added to what comes from below it.

    Source: feature pyramid networks, Lin et al. 2017 (arXiv:1612.03144), section 3. Everything in it looks at a few
    cells only, and norms are over channels, so what it says of a place does not depend on where the window ends.

    Context scales and shifts the channels of each map before they are mixed (feature-wise linear modulation, Perez et
    al. 2018, arXiv:1709.07871): to ask whether what is seen here is what the context speaks of is to multiply the two.
    Where context is only added to the coarsest map, the demo's key task takes several times as many steps.

    Args:
        feature_dims: channels of the maps, finest first.
        strides: their cells' sides in pixels.
        window_size: side of what they cover, a multiple of the last stride.
        width: channels of the result.
        finest: maps with finer cells than this are left aside, in pixels.

    Raises:
        ConfigError: the window is not a multiple of the last stride.
    """

    def __init__(
        self,
        feature_dims: Sequence[int],
        strides: Sequence[int],
        window_size: int,
        width: int,
        finest: int = 4,
    ) -> None:
        super().__init__()
        if window_size % strides[-1]:
            raise ConfigError(
                f"dense heads need regions (with their halo) of a multiple of the region encoder's last stride "
                f"{strides[-1]}, got {window_size} pixels"
            )
        self.first = sum(stride < finest for stride in strides[:-1])
        self.stride = strides[self.first]
        self.laterals = nn.ModuleList(
            nn.Sequential(LayerNorm2d(dim), nn.Conv2d(dim, width, kernel_size=1))
            for dim in feature_dims[self.first :]
        )
        self.blocks = nn.ModuleList(_block(width) for _ in self.laterals)

    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        """Merge the maps.

        Args:
            maps: (regions, channels, cells, cells) each, finest first.
            context: (regions, 2 * width, cells of the coarsest, likewise): what to scale by, less one, and to add.

        Returns:
            (regions, width, cells, cells of the finest).
        """
        return self.levels(maps, context)[0]

    def levels(self, maps: Sequence[Tensor], context: Tensor | None = None) -> list[Tensor]:
        """All merged maps, finest first: (regions, width, cells, cells) each; arguments as of `forward`."""
        merged: Tensor | None = None
        results: list[Tensor] = []
        for features, lateral, block in reversed(
            list(zip(maps[self.first :], self.laterals, self.blocks, strict=True))
        ):
            here = lateral(features)
            if merged is not None:
                here = here + _resized(merged, here)
            if context is not None:
                scale, shift = _resized(context, here).chunk(2, dim=1)
                here = here * (1 + scale) + shift
            merged = block(here)
            results.append(merged)
        return results[::-1]


def _resized(coarse: Tensor, like: Tensor) -> Tensor:
    """With as many cells as the other."""
    if coarse.shape[-2:] == like.shape[-2:]:
        return coarse
    return F.interpolate(coarse, size=like.shape[-2:], mode="bilinear")


def _block(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, kernel_size=3, padding=1), LayerNorm2d(width), nn.GELU())
