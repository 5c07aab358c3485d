"""Which places in a region's answer are places of its image, which regions overhang, and have data."""

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.labels.box_table import BoxTable
from xt.regions.grid import Region

Rows = NDArray[np.float64]
# Of files, in pixels: smaller boxes would be nothing there.
_SMALLEST = 1e-3


def on_data(y: Rows, x: Rows, region: Region, image: LargeImage) -> NDArray[np.bool_]:
    """Which of a region's places lie in the image, which regions overhang, and where it has data.

    Args:
        y, x: (N,) in pixels of the image. An offset may carry a place a little over its region's border.
    """
    inside: NDArray[np.bool_] = (y >= 0) & (x >= 0) & (y < image.shape[0]) & (x < image.shape[1])
    if image.has_nodata and inside.any():
        _, valid = image.read_usable(*region)
        row = np.clip(y - region.y, 0, region.height - 1).astype(int)
        column = np.clip(x - region.x, 0, region.width - 1).astype(int)
        inside &= np.asarray(valid.any(axis=-1))[row, column]
    return inside


def boxes_on_data(table: BoxTable, region: Region, image: LargeImage) -> BoxTable:
    """A region's boxes cut at the image's borders, those without data at their centre left out."""
    found = table.clipped(*image.shape)
    found = found.select((found.heights >= _SMALLEST) & (found.widths >= _SMALLEST))
    y, x = found.centres.T
    return found.select(on_data(y, x, region, image))
