"""Tokens of a region and around it -> a map on the region encoder's coarsest cells, smooth across borders."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.regions.grid import RegionGrid


class ContextMap(nn.Module):
    """Projects context tokens to what the decoder takes and interpolates them linearly between their centres.

    Args:
        dim: width of the tokens, D.
        width: of the result, in channels.
        tokens_per_side: of a region.
        region_size: S, in pixels.
        halo: pixels around it that the map reaches out to.
        stride: side of the map's cells, in pixels.
    """

    weights: Tensor

    def __init__(
        self, dim: int, width: int, *, tokens_per_side: int, region_size: int, halo: int, stride: int
    ) -> None:
        super().__init__()
        self.reach = reach(tokens_per_side, region_size, halo, stride)
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, width)
        weights = interpolation_weights(tokens_per_side, region_size, halo, stride)
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(regions, tokens in and around it, D) -> (regions, width, cells, cells)."""
        side = self.weights.shape[1]
        known = self.projection(self.norm(tokens)).unflatten(1, (side, side))
        weights = self.weights.to(known.dtype)
        return torch.einsum("yi,xj,nijc->ncyx", weights, weights, known)


def reach(tokens_per_side: int, region_size: int, halo: int, stride: int) -> int:
    """How many tokens beyond the region's own the outermost cell's centre lies between."""
    step = region_size / tokens_per_side
    return max(0, math.ceil((halo - stride / 2) / step + 0.5))


def interpolation_weights(
    tokens_per_side: int, region_size: int, halo: int, stride: int
) -> NDArray[np.float64]:
    """(cells, tokens), along one axis: how much of each token a cell of the map gets; rows sum to 1."""
    step = region_size / tokens_per_side
    beyond = reach(tokens_per_side, region_size, halo, stride)
    tokens = np.arange(-beyond, tokens_per_side + beyond)
    cells = (np.arange(-halo, region_size + halo, stride) + stride / 2) / step - 0.5
    return np.maximum(0.0, 1.0 - np.abs(cells[:, None] - tokens[None, :]))


def neighbouring_tokens(grids: Sequence[RegionGrid], tokens_per_side: int, reach: int) -> NDArray[np.int64]:
    """Which tokens each region's context map is made of.

    Beyond the image, and where regions are skipped, the region's own nearest token stands in.

    Args:
        grids: of the images, whose tokens follow each other, every image padded to as many as the longest.

    Returns:
        (regions of all images, (tokens_per_side + 2 reach) ** 2) token numbers, row by row.
    """
    longest = max(len(grid) for grid in grids) * tokens_per_side**2
    return np.concatenate(
        [_of_one_image(grid, tokens_per_side, reach) + longest * n for n, grid in enumerate(grids)]
    )


def _of_one_image(grid: RegionGrid, side: int, reach: int) -> NDArray[np.int64]:
    numbers = np.arange(len(grid) * side**2, dtype=np.float64)
    where = np.nan_to_num(grid.to_map(numbers, side), nan=-1).astype(np.int64)
    own = np.arange(-reach, side + reach)
    rows = grid.cells[:, :1] * side + own
    columns = grid.cells[:, 1:] * side + own
    inside_rows = np.clip(rows, 0, where.shape[0] - 1)
    inside_columns = np.clip(columns, 0, where.shape[1] - 1)
    found = where[inside_rows[:, :, None], inside_columns[:, None, :]]
    nearest = np.clip(own, 0, side - 1)
    stand_in = where[
        (grid.cells[:, :1] * side + nearest)[:, :, None], (grid.cells[:, 1:] * side + nearest)[:, None, :]
    ]
    return np.where(found < 0, stand_in, found).reshape(len(grid), -1)
