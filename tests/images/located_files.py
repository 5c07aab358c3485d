"""Files that lie on the map without a transform: by ground control points or by rational polynomials."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

WEST, NORTH, STEP = 16.0, 36.0, 1e-5

Curve = Callable[[float, float], tuple[float, float]]


def straight(y: float, x: float) -> tuple[float, float]:
    """(longitude, latitude) of a pixel."""
    return WEST + STEP * x, NORTH - STEP * y


def curved(y: float, x: float) -> tuple[float, float]:
    """As a radar's swath lies: turned, and bent."""
    return WEST + STEP * (x + 0.2 * y + 1e-4 * x * y), NORTH - STEP * (y - 0.1 * x + 2e-4 * y * y)


def gcps(shape: tuple[int, int], where: Curve, side: int = 4) -> list[GroundControlPoint]:
    """A grid of side x side control points, the corners among them."""
    return [
        GroundControlPoint(y, x, *where(y, x), 12.5, id=f"{y:g}-{x:g}")
        for y in np.linspace(0, shape[0], side)
        for x in np.linspace(0, shape[1], side)
    ]


def rpc(shape: tuple[int, int], height: float = 0.0) -> RPC:
    """Polynomials that say what `straight` says, and move to the right by 20 pixels for every 100 m of height."""
    half_y, half_x = shape[0] / 2, shape[1] / 2
    nothing = [0.0] * 20
    # In the order of the standard: 1, longitude, latitude, height.
    line, sample, one = list(nothing), list(nothing), list(nothing)
    line[2], sample[1], sample[3], sample[0], one[0] = -1.0, 1.0, 100 / half_x, 0.2 * height / half_x, 1.0
    return RPC(
        height_off=height,
        height_scale=500.0,
        lat_off=NORTH - STEP * half_y,
        lat_scale=STEP * half_y,
        line_den_coeff=one,
        line_num_coeff=line,
        line_off=half_y - 0.5,
        line_scale=half_y,
        long_off=WEST + STEP * half_x,
        long_scale=STEP * half_x,
        samp_den_coeff=one,
        samp_num_coeff=sample,
        samp_off=half_x - 0.5,
        samp_scale=half_x,
    )


def write_located(
    path: Path, pixels: np.ndarray, points=None, rpcs=None, crs: str | None = "EPSG:4326"
) -> Path:
    """A GeoTIFF of (height, width) or (height, width, bands) located by points or polynomials, or not at all."""
    bands = np.atleast_3d(pixels)
    height, width, count = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype, tiled=True,
            blockxsize=64, blockysize=64, nodata=255,
        ) as file:  # fmt: skip
            file.write(bands.transpose(2, 0, 1))
            if points is not None:
                file.gcps = points, rasterio.CRS.from_string(crs) if crs else rasterio.CRS()
            if rpcs is not None:
                file.rpcs = rpcs
    return path
