"""Tokens of a region and around it -> a map on the region encoder's coarsest cells, smooth across borders."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.regions.pyramid_grid import each_scale
from xt.regions.scattered import PixelRegions


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


def neighbouring_tokens(grids: Sequence[PixelRegions], tokens_per_side: int, reach: int) -> NDArray[np.int64]:
    """Which tokens the context map of each region that is decoded (a grid's `leaves`) is made of.

    At each place it is the finest token that covers the place's middle. Beyond the image, and where regions are
    skipped, the region's own nearest token stands in.

    Args:
        grids: of the images, whose tokens follow each other, every image padded to as many as the longest.

    Returns:
        (leaves of all images, (tokens_per_side + 2 reach) ** 2) token numbers, row by row.
    """
    longest = max(len(grid) for grid in grids) * tokens_per_side**2
    return np.concatenate(
        [_of_one_image(grid, tokens_per_side, reach) + longest * n for n, grid in enumerate(grids)]
    )


def _of_one_image(grid: PixelRegions, side: int, reach: int) -> NDArray[np.int64]:
    # Everything is counted in tokens of full resolution, `side` of them in a region of the fine grid.
    covering, corners, scales = grid.covering(), grid.origins // grid.region_size * side, each_scale(grid)
    leaves = grid.leaves
    own_corners, own_scales = leaves.origins // grid.region_size * side, each_scale(leaves)
    own = np.arange(-reach, side + reach)
    places = own_corners[:, :, None] + own_scales[:, None, None] * own + own_scales[:, None, None] // 2
    limits = np.array(covering.shape)[:, None] * side - 1
    y, x = np.moveaxis(np.clip(places, 0, limits), 1, 0)
    number = covering[(y // side)[:, :, None], (x // side)[:, None, :]]
    row, column = (
        (at - corners[number, axis]) // scales[number]
        for axis, at in enumerate((y[:, :, None], x[:, None, :]))
    )
    found = number * side**2 + row * side + column
    nearest = np.clip(own, 0, side - 1)
    of_leaf = covering[tuple((own_corners // side).T)]
    stand_in = of_leaf[:, None, None] * side**2 + nearest[:, None] * side + nearest
    is_own = nearest == own
    taken = np.where((number < 0) | (is_own[:, None] & is_own), stand_in, found)
    return taken.reshape(len(leaves), -1)
