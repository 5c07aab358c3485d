"""From pixels of an image to coordinates that other programs understand."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.images.location import Location
from xt.images.projection import is_on_earth, transformed

if TYPE_CHECKING:
    from xt.images import LargeImage

# Coordinates are written to this part of a pixel.
_PART_OF_PIXEL = 1e-3
_DEGREES = "urn:ogc:def:crs:OGC:1.3:CRS84"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an image lies.

    Attributes:
        location: the way between pixels and the map, as `LargeImage.location`; None where there is no map: a slide or
            a photo.
        pixel_area: in the middle of the image, in square map units; see `Location.pixel_area`.
        crs: of the map as rasterio writes it, None if unknown or tied to no place on Earth.
        crs_name: the name by which GeoJSON readers know it ("urn:ogc:def:crs:EPSG::32618"); None where it has none.
            Then coordinates are turned into degrees of longitude and latitude, as RFC 7946 has them.
        origin: where there is no map, the pixel (y, x) that QuPath counts from, see `LargeImage.qupath_origin`.
    """

    location: Location | None = None
    pixel_area: float = -1.0
    crs: str | None = None
    crs_name: str | None = None
    origin: tuple[int, int] = (0, 0)

    @property
    def is_map(self) -> bool:
        return self.location is not None

    @property
    def mirrored(self) -> bool:
        """Whether the map is a mirror image of the pixels as seen on a screen (a map with south at the top)."""
        return self.is_map and self.pixel_area > 0

    @property
    def decimals(self) -> int:
        """Digits behind the point that tell a thousandth of a pixel apart."""
        pixel = math.sqrt(abs(self.pixel_area)) or 1.0
        if self._in_degrees:
            # A degree is about 111 km; better too fine by a digit than too coarse.
            pixel /= 1e5
        return min(max(0, math.ceil(-math.log10(pixel * _PART_OF_PIXEL))), 15)

    def coordinates(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 2): x and y on the map, or longitude and latitude; where there is no map, x and y in QuPath's pixels.

        NaN where the map's system has no degrees, as beyond the rim of a satellite's full disk.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if self.location is None:
            top, left = self.origin
            return np.stack([x - left, y - top], axis=-1)
        east, north = self.location.to_map(y, x)
        if self.crs is not None and self._in_degrees:
            east, north = transformed(self.crs, "EPSG:4326", east, north)
        return np.stack([east, north], axis=-1)

    @property
    def system(self) -> str | None:
        """The system of `coordinates`, as rasterio writes it; None of pixels, and of a map that is nowhere on Earth."""
        return "EPSG:4326" if self._in_degrees else self.crs

    @property
    def _in_degrees(self) -> bool:
        """Whether the image's own coordinates are turned into degrees, for want of a name for them."""
        return self.crs is not None and self.crs_name is None


def place_of(image: "LargeImage") -> Place:
    """Where an image lies: on a map if it says so."""
    location = image.location
    if location is None:
        return Place(origin=image.qupath_origin)
    area = location.pixel_area(image.shape)
    if location.crs is None:
        return Place(location=location, pixel_area=area)
    from rasterio.crs import CRS

    crs = CRS.from_string(location.crs)
    name = _crs_name(crs.to_authority())
    # Of a local system no degrees can be made.
    known = location.crs if name is not None or is_on_earth(crs) else None
    return Place(location=location, pixel_area=area, crs=known, crs_name=name)


def _crs_name(authority: tuple[str, str] | None) -> str | None:
    if authority is None:
        return None
    # GeoJSON has longitude first, as CRS84 says and EPSG:4326 does not.
    return _DEGREES if authority == ("EPSG", "4326") else f"urn:ogc:def:crs:{authority[0]}::{authority[1]}"
