"""Images that lie somewhere: on maps of several kinds, or on a slide."""

import json

import numpy as np
import rasterio

from xt.images import LargeImage

UTM = {"crs": "EPSG:32618", "transform": (0.5, 0.0, 437_000.0, 0.0, -0.5, 4_420_000.0)}
TURNED = {"crs": "EPSG:32618", "transform": (0.4, 0.3, 437_000.0, 0.3, -0.4, 4_420_000.0)}
SOUTH_UP = {"crs": "EPSG:32618", "transform": (0.5, 0.0, 437_000.0, 0.0, 0.5, 4_420_000.0)}
LATLON = {"crs": "EPSG:4326", "transform": (1e-5, 0.0, -75.0, 0.0, -1e-5, 40.0)}
# A system of somebody's own, without a number.
OWN = {
    "crs": rasterio.CRS.from_string("+proj=tmerc +lat_0=40 +lon_0=-75.3 +k=0.9999 +datum=WGS84").to_wkt(),
    "transform": (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0),
}
# Metres from some corner, as drone software has them: no place on Earth.
LOCAL = {
    "crs": 'LOCAL_CS["Local Coordinates (m)",UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],'
    'AXIS["Northing",NORTH]]',
    "transform": (0.5, 0.0, 100.0, 0.0, -0.5, 2000.0),
}
# A satellite's view of the whole disk, whose corners are not on Earth.
DISK = {
    "crs": rasterio.CRS.from_string("+proj=geos +h=35785831 +lon_0=-75 +sweep=x +datum=WGS84").to_wkt(),
    "transform": (50_000.0, 0.0, -5_500_000.0, 0.0, -50_000.0, 5_500_000.0),
}
SLIDE = {"microns_per_pixel": (0.5, 0.25)}


class Pixels(LargeImage):
    """An array that lies somewhere."""

    def __init__(self, pixels: np.ndarray, **where) -> None:
        self.pixels = pixels.reshape(*pixels.shape[:2], -1)
        super().__init__(
            "made here", [pixels.shape[:2]], self.pixels.shape[2], pixels.dtype, nodata=255, **where
        )

    def _read(self, y, x, height, width, level):
        return self.pixels[y : y + height, x : x + width].copy()


def features(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
