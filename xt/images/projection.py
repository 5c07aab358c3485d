"""Coordinates of points from one system to another, also where some of them have none there."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rasterio.crs import CRS

Coordinates = NDArray[np.float64]


def is_on_earth(crs: "CRS") -> bool:
    """Whether places in this system are places on Earth: not in a local one, metres from some corner, as drone software
    writes them, which nothing can be turned into."""
    return bool(crs.is_projected or crs.is_geographic)


def transformed(
    source: "CRS | str", target: "CRS | str", x: Coordinates, y: Coordinates
) -> tuple[Coordinates, Coordinates]:
    """(N,) x and y in the target system, NaN for points that it does not have, as beyond the rim of a satellite's disk.

    Args:
        source, target: as rasterio takes them; longitude comes before latitude.
        x, y: (N,).
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    if not len(x):
        return x, y
    try:
        there = np.array(transform(source, target, x, y), dtype=np.float64)
    except CPLE_BaseError:
        # One that has no place there fails all, and is not named.
        if len(x) == 1:
            return np.full(1, np.nan), np.full(1, np.nan)
        half = len(x) // 2
        parts = [transformed(source, target, x[some], y[some]) for some in (slice(half), slice(half, None))]
        there = np.concatenate(parts, axis=1)
    there[:, ~np.isfinite(there).all(axis=0)] = np.nan
    return there[0], there[1]
