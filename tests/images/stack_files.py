"""What stacks are tested with: places on the map, a field that lies there, what rasterio makes of a file."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from tests.images.files import smooth, write_raster

PLACE = Affine(10, 0, 500_000, 0, -10, 4_100_000)
UTM = {"crs": "EPSG:32611", "transform": PLACE}
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def field(height: int, width: int, transform: Affine) -> np.ndarray:
    """Something smooth on the map, seen on a grid: what resampling must find again."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = transform.a * columns + transform.b * rows + transform.c - 500_000
    y = transform.d * columns + transform.e * rows + transform.f - 4_100_000
    return (np.sin(x / 400) * 50 + np.cos(y / 300) * 40)[..., np.newaxis].astype(np.float32)


def by_rasterio(path: Path, like: Path, resampling: str, level: int = 0) -> np.ndarray:
    """The file on another's grid as rasterio warps it whole: (h, w, c) float, NaN where there is nothing."""
    with (
        rasterio.open(path) as dataset,
        rasterio.open(like, **({"overview_level": level - 1} if level else {})) as grid,
    ):
        nodata = np.nan if dataset.nodata is None else dataset.nodata
        with WarpedVRT(
            dataset, crs=grid.crs, transform=grid.transform, height=grid.height, width=grid.width,
            resampling=Resampling[resampling], src_nodata=nodata, nodata=np.nan, dtype="float64", tolerance=1e-6,
        ) as warped:  # fmt: skip
            return warped.read().transpose(1, 2, 0)


def write_scene(folder: Path) -> Path:
    """With levels, and a value for nothing."""
    return write_raster(
        folder / "vv.tif", smooth(200, 180, 1, "float32"), nodata=-9999, overviews=(2, 4), **TILED, **UTM
    )
