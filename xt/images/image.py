"""The interface of every source of pixels: a `LargeImage` is read by window, never whole."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, ImageError, PixelError, ShapeError
from xt.images.location import AffineLocation, Control, Location, Transform
from xt.images.notes import BandNotes, FileNotes

if TYPE_CHECKING:
    from xt.images.resampled import AtResolution, Resampling
    from xt.images.views import AtLevel, Crop, Flip, Rotate

# Of a pixel's side in micrometres: a hundredth of an atom, and a kilometre.
_SHORTEST, _LONGEST = 1e-6, 1e9
_ROUNDING = 1e-12


class LargeImage(ABC):
    """Pixels that are read by window; safe to read from many threads at once.

    A subclass passes what it is to `__init__` and implements `_read` for windows that lie inside the image,
    and `close` if it holds anything. Windows that reach outside are filled here, once for all sources.

    Attributes:
        name: the path, or what the pixels are, for messages.
        shape: (height, width) at level 0.
        level_shapes: (height, width) of each level; level 0 first.
        levels: downsample factor of each level against level 0; `levels[0] == 1.0`.
        microns_per_pixel: (y, x) at level 0, where the file says so; of what is no length, such as 0, infinity or NaN,
            it is taken to say nothing.
        crs: coordinate system as rasterio writes it (an authority code, else WKT).
        transform: (a, b, c, d, e, f) with x_map = a*x + b*y + c and y_map = d*x + e*y + f; (x, y) = (0, 0) is
            the outer corner of the top left pixel. One by which pixels have no area is none.
        control: what locates it instead, where the file has no transform: ground control points or rational
            polynomials. `location` is the way between pixels and map whichever it has.
        nodata: the value of pixels that hold nothing, where one value means so in all channels; `read_valid` tells
            which they are in any image.
        nodata_values: that value of each channel; None where another thing decides, such as a mask, or nothing.
        fill: what is read outside the image.
        channel_names: one a channel, where the file says so.
        orientation: the tag of the file by which its pixels were turned to be upright, numbered as in EXIF and TIFF;
            1 where they are as stored.
        qupath_origin: the pixel (y, x) of level 0 that QuPath counts from, which leaves out what was not scanned.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of a source that is registered: how the names of its files end, in small letters with the dot."""
    orientation: int = 1
    # Of the files, how many bands are alpha, and so no channels.
    alpha_bands: int = 0
    qupath_origin: tuple[int, int] = (0, 0)

    def __init__(
        self,
        name: str,
        level_shapes: Sequence[tuple[int, int]],
        channels: int,
        dtype: np.dtype[Any],
        *,
        levels: Sequence[float] | None = None,
        microns_per_pixel: tuple[float, float] | None = None,
        crs: str | None = None,
        transform: Transform | None = None,
        control: Control | None = None,
        nodata: float | Sequence[float | None] | None = None,
        fill: float | None = None,
        channel_names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.level_shapes = tuple((int(height), int(width)) for height, width in level_shapes)
        self.shape = self.level_shapes[0]
        self.channels = int(channels)
        self.dtype = np.dtype(dtype)
        self.levels = tuple(levels) if levels is not None else _factors(self.level_shapes)
        self.microns_per_pixel = lengths_or_none(microns_per_pixel)
        self.crs = crs
        self.transform = invertible(transform)
        self.control = control
        self.nodata_values: tuple[float | None, ...] = (
            tuple(nodata) if isinstance(nodata, Sequence) else (nodata,) * self.channels
        )
        self.nodata = common_value(self.nodata_values)
        self.fill = fill if fill is not None else self.nodata if self.nodata is not None else 0
        self.channel_names = None if channel_names is None else tuple(channel_names)
        self.closed = False

    @classmethod
    def opens(cls, path: str) -> bool:
        """Whether this source is the one for a file, as `cls(path, nodata)`; of those that are registered."""
        return path.lower().endswith(cls.suffixes)

    def read(self, y: int, x: int, height: int, width: int, level: int = 0) -> np.ndarray:
        """One window (height, width, channels) of the image's own dtype, an array the caller may change.

        Args:
            y, x: top left of the window in pixels of level 0; may be negative or beyond the image.
            height, width: size of the answer in pixels of `level`, at least 1.
            level: which resolution. The window starts at the pixel of that level nearest to (y, x).
        Raises:
            ShapeError: the size is below 1, or there is no such level.
            ImageError: the image is closed, or its file is damaged where the window lies.
        """
        return self._read_level(*self._window(y, x, height, width, level))

    def read_valid(
        self, y: int, x: int, height: int, width: int, level: int = 0
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """A window as `read` gives it, and which of its values are data: (height, width, channels) both.

        False outside the image and where a channel holds nothing: where its file's mask or alpha says so, at its nodata
        value, or, in a stack, outside the file that the channel comes from. Of a file it is what GDAL's own masks say.

        Args and errors: as of `read`.
        """
        return self._read_level_valid(*self._window(y, x, height, width, level))

    def read_usable(
        self, y: int, x: int, height: int, width: int, level: int = 0
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """As `read_valid`, but where NaN means missing, infinity does, too, as for models and means."""
        pixels, valid = self.read_valid(y, x, height, width, level)
        return pixels, self._usable(pixels, valid)

    def _usable(self, pixels: np.ndarray, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of values that are data those that are a number, if their channel says that it holds others."""
        by_nan = [value is not None and math.isnan(value) for value in self.nodata_values]
        if not any(by_nan):
            return valid
        return (
            valid & np.isfinite(pixels) if all(by_nan) else valid & (np.isfinite(pixels) | ~np.array(by_nan))
        )

    @property
    def location(self) -> Location | None:
        """The way between its pixels and the map; None if it does not say where it lies."""
        return self.control if self.transform is None else AffineLocation(self.transform, self.crs)

    @property
    def has_nodata(self) -> bool:
        """Whether pixels inside the image may hold nothing, so that `read_valid` tells more than `read`."""
        return any(value is not None for value in self.nodata_values)

    @property
    def misses_alike(self) -> bool:
        """Whether it is known that a pixel misses all of its channels or none."""
        return self.channels == 1

    def _window(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        """A window that was asked for, in pixels of its level."""
        y, x, height, width, level = (operator.index(value) for value in (y, x, height, width, level))
        self._require_open()
        self._require_level(level)
        if height < 1 or width < 1:
            raise ShapeError(f"a window of {self.name} must be at least 1 x 1 pixels, not {height} x {width}")
        factor = self.levels[level]
        return to_level(y, factor), to_level(x, factor), height, width, level

    # Here and below, y and x count pixels of `level`, so that views can place windows without rounding.

    def _read_level(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        part = self._inside(y, x, height, width, level)
        if part == (y, x, height, width):
            return self._read(y, x, height, width, level)
        window = np.full((height, width, self.channels), self.fill, dtype=self.dtype)
        if part is not None:
            top, left, rows, columns = part
            pixels = self._read(top, left, rows, columns, level)
            window[top - y : top - y + rows, left - x : left - x + columns] = pixels
        return window

    def _read_level_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        part = self._inside(y, x, height, width, level)
        if part == (y, x, height, width):
            return self._read_valid(y, x, height, width, level)
        window = np.full((height, width, self.channels), self.fill, dtype=self.dtype)
        valid = np.zeros(window.shape, dtype=np.bool_)
        if part is not None:
            top, left, rows, columns = part
            place = np.s_[top - y : top - y + rows, left - x : left - x + columns]
            window[place], valid[place] = self._read_valid(top, left, rows, columns, level)
        return window, valid

    def _inside(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[int, int, int, int] | None:
        """The part of a window that lies inside the image."""
        level_height, level_width = self.level_shapes[level]
        top, left = max(y, 0), max(x, 0)
        rows, columns = min(y + height, level_height) - top, min(x + width, level_width) - left
        return (top, left, rows, columns) if rows > 0 and columns > 0 else None

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """As `_read`, with which values are data."""
        pixels = self._read(y, x, height, width, level)
        return pixels, is_data(pixels, self.nodata_values)

    @abstractmethod
    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        """A window that lies inside the image, (y, x) in pixels of `level`, as an array of its own."""

    def file_notes(self) -> FileNotes:
        """What the file says of all its pixels besides what is an attribute here."""
        return FileNotes()

    def band_notes(self) -> tuple[BandNotes, ...]:
        """What the file says of each channel."""
        return tuple(BandNotes(name=name) for name in self.channel_names or [None] * self.channels)

    def close(self) -> None:
        """Let go of files and memory; reading afterwards raises ImageError. Closing twice is fine."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def crop(self, y: int, x: int, height: int, width: int) -> Crop:
        """The part of this image that starts at (y, x), lazily.

        Raises:
            ShapeError: the part is empty or reaches outside the image.
        """
        from xt.images.views import Crop

        return Crop(self, y, x, height, width)

    def at_level(self, level: int) -> AtLevel:
        """This image as if `level` were its full resolution, lazily; the levels below it remain."""
        from xt.images.views import AtLevel

        return AtLevel(self, level)

    def at_resolution(
        self,
        *,
        microns_per_pixel: float | tuple[float, float] | None = None,
        map_units_per_pixel: float | tuple[float, float] | None = None,
        resampling: Resampling = "bilinear",
    ) -> AtResolution:
        """This image as if it had been taken at another resolution, lazily; the levels coarser than that remain.

        Windows are resampled as they are read, from the coarsest level that is fine enough, and have no seams (beyond
        those of `SlideImage`, where a scanner's levels do not divide evenly). The result is exactly as fine as asked;
        at its far edges it covers up to half a pixel more or less.

        Args:
            microns_per_pixel: of level 0 of the result, one number or (y, x): for slides.
            map_units_per_pixel: the same in the units of the coordinate system (often metres): for maps. Either one
                of the two.
            resampling: "bilinear": the mean over each pixel's area where this shrinks the image, bilinear
                interpolation where it enlarges it. "nearest": for class numbers.
        Raises:
            ConfigError: the image does not say its resolution, or the one asked for is not positive.
            ShapeError: nothing of the image would be left.
        """
        from xt.images.resampled import at_resolution

        return at_resolution(self, microns_per_pixel, map_units_per_pixel, resampling)

    def flip(self, axis: str) -> Flip:
        """This image mirrored top to bottom ("y") or left to right ("x"), lazily, as np.flip does."""
        from xt.images.views import Flip

        return Flip(self, axis)

    def rotate(self, quarter_turns: int) -> Rotate:
        """This image turned counter-clockwise, lazily, as np.rot90 does; any integer."""
        from xt.images.views import Rotate

        return Rotate(self, quarter_turns)

    def _require_open(self) -> None:
        if self.closed:
            raise ImageError(f"{self.name} was closed; open it again to read from it")

    def _require_level(self, level: int) -> None:
        if not 0 <= level < len(self.levels):
            last = len(self.levels) - 1
            raise ShapeError(f"{self.name} has the levels 0 to {last}; level {level} does not exist")

    def __repr__(self) -> str:
        height, width = self.shape
        levels = ", ".join(f"{factor:g}" for factor in self.levels)
        return (
            f"<{type(self).__name__} {self.name}: {height} x {width} pixels, {self.channels} channels, "
            f"{self.dtype}, levels {levels}>"
        )

    def _repr_html_(self) -> str:
        from xt.images.notebook import image_html

        return image_html(self)


def to_level(coordinate: int, factor: float) -> int:
    """The pixel of a level nearest to a level-0 coordinate (halves go up)."""
    return coordinate if factor == 1.0 else math.floor(coordinate / factor + 0.5)


def lengths_or_none(lengths: tuple[float, float] | None) -> tuple[float, float] | None:
    """Sides of a pixel, or None where they cannot be: zero, negative, infinite, not a number, or beyond all scales."""
    if lengths is None or not all(_SHORTEST <= length <= _LONGEST for length in lengths):
        return None
    return float(lengths[0]), float(lengths[1])


def invertible(transform: Transform | None) -> Transform | None:
    """A transform, or None where it cannot be one: not finite, or its pixels have no area."""
    if transform is None or not all(map(math.isfinite, transform)):
        return None
    a, b, _, d, e, _ = transform
    area = a * e - b * d
    # An area of zero, but for rounding: rows and columns run the same way, or not at all.
    return transform if abs(area) > _ROUNDING * math.hypot(a, d) * math.hypot(b, e) else None


def is_data(pixels: np.ndarray, nodata_values: Sequence[float | None]) -> NDArray[np.bool_]:
    """Where pixels (..., channels) differ from their channel's nodata value, in their own shape."""
    if same(nodata_values):
        return _differs(pixels, nodata_values[0])
    return np.stack(
        [_differs(pixels[..., channel], value) for channel, value in enumerate(nodata_values)], axis=-1
    )


def _differs(pixels: np.ndarray, value: float | None) -> NDArray[np.bool_]:
    if value is None:
        return np.ones(pixels.shape, dtype=np.bool_)
    return ~np.isnan(pixels) if math.isnan(value) else pixels != value


def same(values: Sequence[float | None]) -> bool:
    """Whether all are equal; NaN is equal to NaN here."""
    return len({"nan" if value is not None and math.isnan(value) else value for value in values}) == 1


def common_value(values: Sequence[float | None]) -> float | None:
    """The one value that all are, else None."""
    return values[0] if same(values) else None


def check_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Pixels are integers, floats or booleans, of at most 64 bits.

    Raises:
        PixelError: they are anything else.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        hint = "; take its amplitude or its two parts as bands first" if dtype.kind == "c" else ""
        raise PixelError(f"{name} has pixels of type {dtype}, but integers or real floats are expected{hint}")
    return dtype


def check_nodata(nodata: float | None, dtype: np.dtype[Any], name: str) -> float | None:
    """A nodata value given by the user, as a plain number.

    Raises:
        ConfigError: the pixel type cannot hold it.
    """
    if nodata is not None and not fits(nodata, dtype):
        raise ConfigError(f"nodata={nodata} cannot occur in {name}, whose pixels are {dtype}")
    return nodata


def fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a pixel type can hold the value."""
    if dtype.kind == "f":
        # -3.4028235e38, as people write the least float32, is beyond it, and comes to lie on it.
        with np.errstate(over="ignore"):
            return not math.isfinite(value) or bool(np.isfinite(dtype.type(value)))
    if dtype.kind == "b":
        return value in (0, 1)
    limits = np.iinfo(dtype)
    return math.isfinite(value) and float(value).is_integer() and limits.min <= value <= limits.max


def _factors(level_shapes: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    # The mean over both axes, as OpenSlide does: rounding of odd sizes differs between them.
    height, width = level_shapes[0]
    return (1.0, *((height / low[0] + width / low[1]) / 2 for low in level_shapes[1:]))
