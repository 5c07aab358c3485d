"""Which places in a region's answer are places of its image, which regions overhang, and have data."""

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.images.resampled import shrunk
from xt.labels.box_table import BoxTable
from xt.regions.grid import Region

Rows = NDArray[np.float64]
# Of files, in pixels: smaller boxes would be nothing there.
_SMALLEST = 1e-3


def on_data(y: Rows, x: Rows, region: Region, image: LargeImage, region_size: int) -> NDArray[np.bool_]:
    """Which of a region's places lie in the image, which regions overhang, and where it has data.

    Args:
        y, x: (N,) in pixels of the image. An offset may carry a place a little over its region's border.
        region_size: S, of a region of full resolution.
    """
    inside: NDArray[np.bool_] = (y >= 0) & (x >= 0) & (y < image.shape[0]) & (x < image.shape[1])
    if image.has_nodata and inside.any():
        valid = has_data(image, region, region_size)
        scale = region.height // len(valid)
        row = np.clip((y - region.y) / scale, 0, len(valid) - 1).astype(int)
        column = np.clip((x - region.x) / scale, 0, len(valid) - 1).astype(int)
        inside &= valid[row, column]
    return inside


def has_data(image: LargeImage, region: Region, region_size: int) -> NDArray[np.bool_]:
    """(S, S): which pixels of a region have data in any channel, as it is read: at its scale."""
    scale = region.height // region_size
    small = shrunk(image, scale)
    _, valid = small.read_usable(region.y // scale, region.x // scale, region_size, region_size)
    return np.asarray(valid.any(axis=-1))


def is_known(image: LargeImage, region: Region, region_size: int) -> NDArray[np.bool_]:
    """(S, S): likewise which lie in the image and, where it may have no data, have some."""
    if image.has_nodata:
        return has_data(image, region, region_size)
    scale = region.height // region_size
    inside = [
        start + scale * np.arange(region_size) < side
        for start, side in zip((region.y, region.x), image.shape, strict=True)
    ]
    return np.logical_and.outer(*inside)


def boxes_on_data(table: BoxTable, region: Region, image: LargeImage, region_size: int) -> BoxTable:
    """A region's boxes cut at the image's borders, those without data at their centre left out."""
    found = table.clipped(*image.shape)
    found = found.select((found.heights >= _SMALLEST) & (found.widths >= _SMALLEST))
    y, x = found.centres.T
    return found.select(on_data(y, x, region, image, region_size))
