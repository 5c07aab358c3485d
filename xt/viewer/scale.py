"""How long a pixel of a map is on the ground, for the scale bar."""

from __future__ import annotations

import math

import numpy as np

from xt.images import LargeImage
from xt.images.projection import is_on_earth, transformed

_DEGREES = "EPSG:4326"
_STEP = 0.01


def metres_per_pixel(image: LargeImage) -> tuple[float, float] | None:
    """(height, width) of a pixel in the middle of the image in metres on the ground, whatever its map's units and
    projection; None of an image that lies on no map. Without a named system, units are taken to be metres."""
    location = image.location
    if location is None:
        return None
    # Far enough apart that no digits are lost, near enough that the map is straight there.
    step = max(1.0, _STEP * min(image.shape))
    middle_y, middle_x = (side / 2 for side in image.shape)
    x, y = location.to_map(
        np.array([middle_y, middle_y + step, middle_y]), np.array([middle_x, middle_x, middle_x + step])
    )
    if location.crs is not None and _on_earth(location.crs):
        x, y = transformed(location.crs, _DEGREES, x, y)
        lengths = [_ground(x[0], y[0], x[end], y[end]) / step for end in (1, 2)]
    else:
        lengths = [math.hypot(x[end] - x[0], y[end] - y[0]) / step for end in (1, 2)]
    down, across = lengths
    return (down, across) if all(math.isfinite(length) and length > 0 for length in lengths) else None


def _on_earth(crs: str) -> bool:
    from rasterio.crs import CRS

    return is_on_earth(CRS.from_string(crs))


def _ground(longitude: float, latitude: float, other_longitude: float, other_latitude: float) -> float:
    """Metres between two near places on the ellipsoid of GPS."""
    # Radii of curvature at the latitude, along the meridian and across it.
    semi_major, eccentricity = 6378137.0, 0.00669437999014
    phi = math.radians((latitude + other_latitude) / 2)
    bend = 1 - eccentricity * math.sin(phi) ** 2
    across, along = semi_major / math.sqrt(bend), semi_major * (1 - eccentricity) / bend**1.5
    east = (other_longitude - longitude + 180) % 360 - 180
    return math.hypot(
        math.radians(east) * math.cos(phi) * across, math.radians(other_latitude - latitude) * along
    )
