"""How values become colours: which bands, stretched from where to where, gamma and a colour map."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.images import LargeImage

if TYPE_CHECKING:
    from xt.viewer.pyramid import Pyramid

# As `xt.images.thumbnail` stretches.
_PERCENTILES = (2, 98)
# Pixels a side of what percentiles are taken of.
_SAMPLE = 1024
COLOUR_MAPS = ("viridis", "magma", "inferno", "cividis", "gray", "RdYlGn", "coolwarm", "terrain")


@dataclass(frozen=True)
class Look:
    """What is shown of an image's values.

    Attributes:
        bands: numbers of the channels, from 0: three are red, green and blue, one is grey or a colour map.
        low, high: of each band the value that is black, or the colour map's first, and white, or its last.
        gamma: below 1 dark values become brighter, above 1 darker.
        colours: a colour map of matplotlib's for one band; "" for grey.
    """

    bands: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    gamma: float = 1.0
    colours: str = ""

    def __post_init__(self) -> None:
        if len(self.bands) not in (1, 3) or not len(self.bands) == len(self.low) == len(self.high):
            raise ConfigError(
                f"one band or three are shown, each with its lowest and highest value, not {len(self.bands)} with "
                f"{len(self.low)} and {len(self.high)}"
            )
        if not all(map(math.isfinite, (*self.low, *self.high))):
            raise ConfigError(f"values are stretched between numbers, not from {self.low} to {self.high}")
        if not 0.05 <= self.gamma <= 20:
            raise ConfigError(f"gamma must be between 0.05 and 20, got {self.gamma}")
        if self.colours and self.colours not in COLOUR_MAPS:
            raise ConfigError(
                f"there is no colour map {self.colours!r} here; there are {', '.join(COLOUR_MAPS)}"
            )

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            "bands": list(self.bands), "low": list(self.low), "high": list(self.high),
            "gamma": self.gamma, "colours": self.colours,
        }  # fmt: skip

    def changed(self, words: Mapping[str, str], channels: int) -> Self:
        """This look with what an address says otherwise: bands=3,2,1 low=0,0,0 high=... gamma=0.8 colours=magma.

        Raises:
            ConfigError: they are not numbers, or not of this image.
        """
        given: dict[str, Any] = {}
        if "bands" in words:
            given["bands"] = tuple(int(number) for number in _numbers(words, "bands"))
            if not all(0 <= band < channels for band in given["bands"]):
                raise ConfigError(f"the image has the bands 0 to {channels - 1}, not {words['bands']}")
        for name in ("low", "high"):
            if name in words:
                given[name] = tuple(_numbers(words, name))
        if "gamma" in words:
            given["gamma"] = _numbers(words, "gamma")[0]
        if "colours" in words:
            given["colours"] = words["colours"]
        return replace(self, **given)

    def is_plain(self, dtype: np.dtype[Any]) -> bool:
        """Whether 8-bit values are shown as they are."""
        even = set(self.low) == {0.0} and set(self.high) == {255.0} and self.gamma == 1.0
        return dtype == np.uint8 and even and not self.colours

    def colour(self, pixels: np.ndarray, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Values as colours.

        Args:
            pixels, valid: (height, width, channels), as of `LargeImage.read_usable`.
        Returns:
            (height, width, 3) where all is there, else (height, width, 4) with alpha 0 where a band is missing.
        """
        chosen = pixels if self.bands == tuple(range(pixels.shape[-1])) else pixels[..., list(self.bands)]
        there = self._there(chosen, valid)
        if self.is_plain(pixels.dtype):
            shades = chosen
        else:
            shades = np.stack(
                [self._shade(chosen[..., band], band) for band in range(len(self.bands))], axis=-1
            )
        if self.colours:
            shades = _table(self.colours)[shades[..., 0]]
        elif shades.shape[-1] == 1:
            shades = np.repeat(shades, 3, axis=-1)
        if there is None:
            return shades
        return np.dstack([np.where(there[..., np.newaxis], shades, 0), there.astype(np.uint8) * 255])

    def _there(self, chosen: np.ndarray, valid: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """(height, width) where all bands hold a number; None where that is everywhere."""
        known = valid.all()
        if known and chosen.dtype.kind != "f":
            return None
        there: NDArray[np.bool_] = np.ones(valid.shape[:2], bool)
        if not known:
            there &= valid[..., list(self.bands)].all(axis=-1)
        if chosen.dtype.kind == "f":
            there &= np.isfinite(chosen).all(axis=-1)
        return None if there.all() else there

    def _shade(self, values: np.ndarray, band: int) -> NDArray[np.uint8]:
        """0 to 255 of one band."""
        low, high = self.low[band], self.high[band]
        if values.dtype.kind in "u" and values.dtype.itemsize <= 2:
            every = np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float32)
            return _stretched(every, low, high, self.gamma)[values]
        with np.errstate(invalid="ignore", over="ignore"):
            return _stretched(np.nan_to_num(values.astype(np.float64)), low, high, self.gamma)


def default_look(image: LargeImage, limits: Sequence[tuple[float, float]]) -> Look:
    """What people see first: 8-bit images as they are, others stretched between the limits of each band."""
    bands = (0, 1, 2) if image.channels >= 3 else (0,)
    return Look(bands, tuple(limits[band][0] for band in bands), tuple(limits[band][1] for band in bands))


def band_limits(image: LargeImage, pyramid: Pyramid) -> list[tuple[float, float]]:
    """Of each channel the two percentiles that it is stretched between, (0, 1) where there is nothing; 8-bit images are
    shown as they are."""
    if image.dtype == np.uint8:
        return [(0.0, 255.0)] * image.channels
    pixels, valid = pyramid.whole(_SAMPLE)
    return [_limits(pixels[..., channel], valid[..., channel]) for channel in range(image.channels)]


def _limits(values: np.ndarray, valid: NDArray[np.bool_]) -> tuple[float, float]:
    there = values[valid & np.isfinite(values)].astype(np.float64)
    if there.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(there, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _stretched(values: np.ndarray, low: float, high: float, gamma: float) -> NDArray[np.uint8]:
    # The other way round it is a negative, as people choose it for fluorescence.
    width = high - low or 1.0
    share = np.clip((values - low) / width, 0, 1)
    shades: NDArray[np.uint8] = np.rint(255 * (share if gamma == 1.0 else share**gamma)).astype(np.uint8)
    return shades


@functools.cache
def _table(colours: str) -> NDArray[np.uint8]:
    """(256, 3) of a colour map."""
    import matplotlib

    table: NDArray[np.uint8] = matplotlib.colormaps[colours](np.arange(256), bytes=True)[:, :3]
    return table


def _numbers(words: Mapping[str, str], name: str) -> list[float]:
    try:
        return [float(part) for part in words[name].split(",")]
    except ValueError as error:
        raise ConfigError(f"{name} must be numbers with commas between, got {words[name]!r}") from error
