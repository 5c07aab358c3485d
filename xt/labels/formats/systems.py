"""What the coordinates of a file of labels count, and where they lie in an image: one class for each way to count."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.errors import TableError
from xt.images import LargeImage
from xt.images.projection import is_on_earth, transformed

if TYPE_CHECKING:
    from rasterio.crs import CRS

Numbers = NDArray[np.float64]
DEGREES = "EPSG:4326"

# Names of systems that GDAL would look up in the network, or does not know in this spelling.
_WRITTEN = (
    (re.compile(r"https?://www\.opengis\.net/def/crs/(\w+)/[^/]*/(\w+)/?", re.I), r"\1:\2"),
    (re.compile(r"https?://www\.opengis\.net/gml/srs/(\w+)\.xml#(\w+)", re.I), r"\1:\2"),
    (re.compile(r"(EPSG|ESRI|OGC)::?\s*(\w+)", re.I), r"\1:\2"),
    (re.compile(r"CRS84", re.I), "OGC:CRS84"),
)


class System(ABC):
    """What x and y of a file of labels count."""

    @abstractmethod
    def in_pixels(self, image: LargeImage) -> bool:
        """Whether they are pixels of this image, so that what lies beside it is a mistake; on a map a file may go
        beyond the image, as one that serves several images does."""

    @abstractmethod
    def to_pixels(self, image: LargeImage, x: Numbers, y: Numbers, source: str) -> tuple[Numbers, Numbers]:
        """(N,) y and x in pixels of level 0 of an image; NaN for places that its map does not have.

        Args:
            source: the file, for messages.
        Raises:
            TableError: nobody can say where in the image they lie.
        """


@dataclass(frozen=True)
class Pixels(System):
    """Pixels of level 0 from the image's corner; with `qupath`, from where QuPath begins to count."""

    qupath: bool = False

    def in_pixels(self, image: LargeImage) -> bool:
        return True

    def to_pixels(self, image: LargeImage, x: Numbers, y: Numbers, source: str) -> tuple[Numbers, Numbers]:
        top, left = image.qupath_origin if self.qupath else (0, 0)
        return y + top, x + left


@dataclass(frozen=True)
class OwnMap(System):
    """The image's own map."""

    def in_pixels(self, image: LargeImage) -> bool:
        return False

    def to_pixels(self, image: LargeImage, x: Numbers, y: Numbers, source: str) -> tuple[Numbers, Numbers]:
        return _to_pixels(image, x, y, source, "the image's map")


@dataclass(frozen=True)
class Named(System):
    """A coordinate system with a name that GDAL knows; longitude and easting come first, whatever its own order is."""

    name: str

    def in_pixels(self, image: LargeImage) -> bool:
        return False

    def to_pixels(self, image: LargeImage, x: Numbers, y: Numbers, source: str) -> tuple[Numbers, Numbers]:
        if not len(x):
            return y, x
        wanted = _crs_of(image)
        if image.location is not None and wanted is None:
            raise TableError(
                f"{source} is in {self.name}, but {image.name} has no coordinate system to turn it into"
            )
        if wanted is not None:
            # What has no place in the image's system lies beyond the image.
            x, y = transformed(self._crs(source), wanted, x, y)
        return _to_pixels(image, x, y, source, self.name)

    def _crs(self, source: str) -> "CRS":
        from rasterio.crs import CRS
        from rasterio.errors import CRSError

        name = self.name.strip()
        for pattern, spelling in _WRITTEN:
            if pattern.fullmatch(name):
                name = pattern.sub(spelling, name)
        try:
            if "://" in name:
                raise CRSError
            return CRS.from_user_input(name)
        except (CRSError, ValueError):
            raise TableError(
                f"{source} names the coordinate system {self.name!r}, which is unknown; write its EPSG code, such as "
                "urn:ogc:def:crs:EPSG::4326"
            ) from None


@dataclass(frozen=True)
class Unnamed(System):
    """A file that does not say: pixels where the image lies on no map, its own map where that has no name.

    Args:
        degrees: otherwise they are degrees, as RFC 7946 says of GeoJSON; without it they are refused.
    """

    degrees: bool

    def in_pixels(self, image: LargeImage) -> bool:
        return image.location is None

    def to_pixels(self, image: LargeImage, x: Numbers, y: Numbers, source: str) -> tuple[Numbers, Numbers]:
        if self.in_pixels(image):
            # QGIS lays a picture without coordinates below the x axis: its rows count downwards from 0 to -height.
            return (-y if len(y) and y.max() <= 0 and y.min() < 0 else y), x
        if _crs_of(image) is None:
            return OwnMap().to_pixels(image, x, y, source)
        outside = np.abs(x).max(initial=0) > 180 or np.abs(y).max(initial=0) > 90
        if self.degrees and not outside:
            return Named(DEGREES).to_pixels(image, x, y, source)
        if self.degrees:
            raise TableError(
                f"{source} names no coordinate system, so its coordinates must be degrees, and ({x[0]:g}, {y[0]:g}) is "
                "not; add a 'crs' member, as QGIS and ogr2ogr write it"
            )
        raise TableError(
            f"{source} names no coordinate system, and {image.name} lies on a map: give it one, in QGIS by Layer > Set "
            "Layer CRS and Save Features As, of a shapefile by its .prj file"
        )


def _crs_of(image: LargeImage) -> "CRS | None":
    """Of the image's map, where places on it are places on Earth."""
    from rasterio.crs import CRS

    if image.location is None or image.location.crs is None:
        return None
    crs = CRS.from_user_input(image.location.crs)
    return crs if is_on_earth(crs) else None


def _to_pixels(image: LargeImage, x: Numbers, y: Numbers, source: str, what: str) -> tuple[Numbers, Numbers]:
    if image.location is None:
        raise TableError(
            f"{source} has coordinates on a map ({what}), but {image.name} does not say where it lies; give them in "
            "pixels, as QuPath's objects, or points as a CSV file with columns y and x"
        )
    return image.location.to_pixels(x, y)
