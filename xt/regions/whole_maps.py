"""Images of a padded batch -> their true sizes; maps of regions -> maps of whole images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xt.regions.grid import RegionGrid


def without_padding(images: Tensor, missing: float) -> tuple[Tensor, list[tuple[int, int]]]:
    """Mark what fills the smaller images of a batch as missing, and tell their true heights and widths.

    Rows at the bottom and columns at the right that are zero in all channels are taken for filling: with scaled pixels
    no photograph has such rows, and where one has them nothing is to be seen in them.

    Args:
        images: (B, C, H, W).
        missing: what stands for pixels that are not there.
    """
    seen = (images != 0).any(dim=1)
    bottom, right = _last(seen.any(dim=2)), _last(seen.any(dim=1))
    sizes = [(max(h, 1), max(w, 1)) for h, w in torch.stack([bottom, right], dim=1).tolist()]
    height, width = images.shape[2:]
    if all(size == (height, width) for size in sizes):
        return images, sizes
    rows = torch.arange(height, device=images.device) < bottom[:, None]
    columns = torch.arange(width, device=images.device) < right[:, None]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    return images.masked_fill(~inside, missing), sizes


def put_together(parts: Tensor, places: Tensor, canvas: tuple[int, int, int]) -> Tensor:
    """Lay maps of regions side by side.

    Args:
        parts: (regions, channels, side, side).
        places: (regions, 3): image, row and column of each.
        canvas: images, rows and columns.

    Returns:
        (images, channels, rows * side, columns * side), zero where no region is.
    """
    channels, side = parts.shape[1:3]
    laid = parts.new_zeros(*canvas, channels, side, side)
    laid = laid.index_put(tuple(places.T), parts)
    images, rows, columns = canvas
    return laid.permute(0, 3, 1, 4, 2, 5).reshape(images, channels, rows * side, columns * side)


def places_of(grids: Sequence[RegionGrid]) -> Tensor:
    """(regions of all images, 3): image, row and column of each."""
    cells = [np.insert(grid.cells, 0, number, axis=1) for number, grid in enumerate(grids)]
    return torch.from_numpy(np.concatenate(cells))


def _last(seen: Tensor) -> Tensor:
    """(B, length) -> (B,): one past the last that is True, 0 if none is."""
    numbers = torch.arange(1, seen.shape[1] + 1, device=seen.device)
    return (seen * numbers).amax(dim=1)
