"""At which resolution a model reads images, and the way between its pixels and those of a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np

from xt.errors import ConfigError
from xt.images.image import LargeImage, lengths_or_none
from xt.images.location import apply
from xt.images.projection import is_on_earth, transformed
from xt.images.resampled import AtResolution, Resampling, map_units, on_grid

# Pixels that differ by less than this share are taken to be of one size: scanners say 0.2521 and 0.2525, and to
# resample one to the other would blur it for nothing.
SAME = 0.01
_UTM_NORTH, _UTM_SOUTH = 32_600, 32_700
_UTM_LIMIT = 84
_METRES_IN_A_DEGREE = 111_195.0
_DEGREES = "EPSG:4326"


class PixelSize(NamedTuple):
    """How large a pixel is, (y, x): on a slide in micrometres, on a map in metres, or degrees."""

    sides: tuple[float, float]
    unit: Literal["micrometres", "metres", "degrees"]

    @property
    def mean(self) -> float:
        return math.sqrt(self.sides[0] * self.sides[1])


class Places(Protocol):
    """A table of points or boxes, in pixels."""

    def scaled(self, y: float, x: float) -> Self:
        """With all coordinates times these."""

    def clipped(self, height: float, width: float) -> Self:
        """Within the borders of an image of this size."""


@dataclass(frozen=True)
class AsRead:
    """An image as a model reads it, and the way back.

    Attributes:
        file: as it is on disk, whose pixels labels and results count.
        image: what the model is given; `file` itself where that has the resolution.
        step: (y, x), how many pixels of the file one of the image spans.
    """

    file: LargeImage
    image: LargeImage
    step: tuple[float, float] = (1.0, 1.0)

    def labels(self, target: Any) -> Any:
        """Labels of the file, a mask of its size or a table of places in its pixels, on the pixels of the image."""
        if self.image is self.file:
            return target
        if isinstance(target, LargeImage):
            # Class numbers: the one at the centre of each pixel.
            return on_grid(target, self.image.shape, self.step, "nearest")
        places: Places = target
        return places.scaled(1 / self.step[0], 1 / self.step[1]).clipped(*self.image.shape)

    def found(self, places: Any) -> Any:
        """A table of what was found, in pixels of the image, in those of the file."""
        return places if self.image is self.file else places.scaled(*self.step).clipped(*self.file.shape)

    def map_found(self, values: LargeImage, resampling: Resampling) -> LargeImage:
        """What was found for each pixel of the image, on those of the file; it lies where the file lies."""
        if self.image is self.file:
            return values
        laid = on_grid(values, self.file.shape, (1 / self.step[0], 1 / self.step[1]), resampling)
        # Not a rounding error beside them.
        laid.microns_per_pixel = self.file.microns_per_pixel
        laid.transform, laid.control = self.file.transform, self.file.control
        laid.qupath_origin = self.file.qupath_origin
        return laid


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The pixel size at which a model reads images, whatever theirs is; with neither, images are read as they are.

    Attributes:
        microns_per_pixel: of slides, in micrometres.
        map_units_per_pixel: of maps, in metres, whatever the unit of the map's own coordinates.

    Raises:
        ConfigError: both are given, or one is not positive.
    """

    microns_per_pixel: float | None = None
    map_units_per_pixel: float | None = None

    def __post_init__(self) -> None:
        for name in ("microns_per_pixel", "map_units_per_pixel"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {value}")
        if self.microns_per_pixel is not None and self.map_units_per_pixel is not None:
            raise ConfigError(
                "microns_per_pixel is for slides and map_units_per_pixel for maps, and a model reads one or the other: "
                "give one of them"
            )

    @property
    def is_set(self) -> bool:
        return self.microns_per_pixel is not None or self.map_units_per_pixel is not None

    def as_read(self, image: LargeImage) -> AsRead:
        """An image at this resolution, lazily; what this gives, given again, stays as it is.

        Pixels that differ from those wanted by less than a hundredth are read as they are, of level 0 or of another.

        Raises:
            ConfigError: the image does not say how large its pixels are, or says it in degrees.
            ShapeError: nothing of the image would be left.
        """
        if self.microns_per_pixel is not None:
            return _stepped(
                image, self.microns_per_pixel, _microns(image, self.microns_per_pixel), "micrometres"
            )
        if self.map_units_per_pixel is not None:
            return _stepped(
                image, self.map_units_per_pixel, _metres(image, self.map_units_per_pixel), "metres"
            )
        return AsRead(image, image)


def check_microns(microns_per_pixel: float | None) -> None:
    """Refuse what is no length of a pixel.

    Raises:
        ConfigError: it is zero, negative, infinite, no number or beyond all scales.
    """
    if microns_per_pixel is not None and lengths_or_none((microns_per_pixel, microns_per_pixel)) is None:
        raise ConfigError(
            f"microns per pixel must be a positive length in micrometres, got {microns_per_pixel}"
        )


def say_resolution(image: LargeImage, microns_per_pixel: float | None) -> None:
    """Tell an image that does not know it how many micrometres its pixels are; None where nobody knows."""
    if microns_per_pixel is not None and image.microns_per_pixel is None:
        image.microns_per_pixel = (microns_per_pixel, microns_per_pixel)


def pixel_size(image: LargeImage) -> PixelSize | None:
    """How large an image's pixels are, None where it does not say."""
    microns = lengths_or_none(image.microns_per_pixel)
    return _size_on_map(image) if microns is None else PixelSize(microns, "micrometres")


def metres_on_the_ground(image: LargeImage) -> float | None:
    """How long a metre of an image's map is on the ground, at its centre: 1, but for maps that stretch what is far from
    the equator, as those of the web do. None where that cannot be known."""
    from rasterio.crs import CRS

    size = _size_on_map(image)
    if size is None or size.unit != "metres" or image.crs is None or image.location is None:
        return None
    if not is_on_earth(CRS.from_string(image.crs)):
        return None
    # The diagonal of the pixel in the middle, on the ground and on the map.
    y, x = image.shape[0] / 2, image.shape[1] / 2
    east, north = image.location.to_map(np.array([y, y + 1]), np.array([x, x + 1]))
    longitude, latitude = transformed(image.crs, _DEGREES, east, north)
    across = (longitude[1] - longitude[0]) * math.cos(math.radians(latitude.mean()))
    ground = math.hypot(across, latitude[1] - latitude[0]) * _METRES_IN_A_DEGREE
    on_map = math.hypot(*size.sides)
    return ground / on_map if math.isfinite(ground) and ground > 0 else None


def _size_on_map(image: LargeImage) -> PixelSize | None:
    """Of images that control points or polynomials locate there is none: it differs from place to place."""
    if image.transform is None:
        return None
    sides, unit = map_units(image.transform), _metres_in_a_unit(image.crs)
    if unit is None:
        return PixelSize(sides, "degrees")
    return PixelSize((sides[0] * unit, sides[1] * unit), "metres")


def _stepped(image: LargeImage, asked: float, own: tuple[float, float], unit: str) -> AsRead:
    step = asked / own[0], asked / own[1]
    for level, (height, width) in enumerate(image.level_shapes):
        there = image.shape[0] / height, image.shape[1] / width
        if all(abs(wanted / side - 1) < SAME for wanted, side in zip(step, there, strict=True)):
            return AsRead(image, image.at_level(level), there) if level else AsRead(image, image)
    return AsRead(image, AtResolution(image, step, f"at {asked:g} {unit} per pixel", "bilinear"), step)


def _microns(image: LargeImage, asked: float) -> tuple[float, float]:
    own = lengths_or_none(image.microns_per_pixel)
    if own is None:
        hint = (
            "it lies on a map, whose resolution is model.map_units_per_pixel"
            if image.location is not None
            else "give it by a column microns_per_pixel of the table, by --microns-per-pixel, or set "
            "image.microns_per_pixel = (y, x)"
        )
        raise ConfigError(
            f"{image.name} does not say how many micrometres a pixel is, and the model reads images at {asked:g} "
            f"micrometres per pixel; {hint}"
        )
    return own


def _metres(image: LargeImage, asked: float) -> tuple[float, float]:
    size = _size_on_map(image)
    wanted = f"the model reads maps at {asked:g} metres per pixel"
    if size is None:
        if image.location is not None:
            what, hint = (
                "is located by control points or polynomials, by which pixels have no one size",
                "warp it",
            )
        elif image.microns_per_pixel is not None:
            what, hint = "is no map but a slide", "leave it out"
        else:
            what, hint = (
                "does not say where it lies, nor how many metres a pixel is",
                "give it its coordinates",
            )
        raise ConfigError(f"{image.name} {what}, and {wanted}: {hint}")
    if size.unit == "degrees":
        target = _metric_system(image)
        raise ConfigError(
            f"{image.name} lies on a map in degrees, where a pixel has no one size in metres, and {wanted}: warp it "
            f"to a system in metres, as gdalwarp -t_srs {target} does"
        )
    return size.sides


def _metres_in_a_unit(crs: str | None) -> float | None:
    """Of a coordinate system; None where its units are degrees. Without a system, units are taken to be metres."""
    if crs is None:
        return 1.0
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    system = CRS.from_string(crs)
    if system.is_geographic:
        return None
    try:
        return float(system.linear_units_factor[1])
    except CRSError:
        return 1.0


def _metric_system(image: LargeImage) -> str:
    """The UTM zone at the centre of a map in degrees, or a polar system."""
    assert image.transform is not None
    x, y = apply(image.transform, np.array(image.shape[1] / 2), np.array(image.shape[0] / 2))
    longitude, latitude = float(x), float(y)
    if not abs(latitude) <= _UTM_LIMIT:
        return "EPSG:3413" if latitude > 0 else "EPSG:3031"
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{(_UTM_NORTH if latitude >= 0 else _UTM_SOUTH) + zone}"
