"""What OME-TIFF and OME-Zarr have in common: which plane is meant, and how long a pixel is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xt.errors import ConfigError

# Micrometres in a unit, by the names and signs of both standards.
_MICRONS = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micrometer": 1.0, "micrometre": 1.0, "micron": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "å": 1e-4, "angstrom": 1e-4, "pm": 1e-6, "picometer": 1e-6,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6, "in": 25_400.0, "inch": 25_400.0,
}  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """Which part of a file is the image: all numbers from 0."""

    time: int = 0
    z: int = 0
    series: int = 0

    def check(self, path: str, **there: int) -> None:
        """Refuse numbers beyond what is there.

        Raises:
            ConfigError: names the first of `time`, `z` and `series` that does not exist.
        """
        names: Mapping[str, str] = {"time": "time points", "z": "focal planes", "series": "images"}
        for name, count in there.items():
            value = getattr(self, name)
            if not 0 <= value < count:
                raise ConfigError(
                    f"{path} has {count} {names[name]}, so {name} is 0 to {count - 1}, not {value}"
                )


def in_microns(
    lengths: tuple[float, float] | None, units: tuple[str | None, str | None]
) -> tuple[float, float] | None:
    """Side lengths of a pixel (y, x), None where they say nothing: no unit of length, or not positive."""
    if lengths is None or min(lengths) <= 0:
        return None
    factors = [None if unit is None else _MICRONS.get(unit.strip().lower()) for unit in units]
    if factors[0] is None or factors[1] is None:
        return None
    return lengths[0] * factors[0], lengths[1] * factors[1]


def channel_names(names: list[str | None]) -> tuple[str, ...] | None:
    """A name for every channel, if any has one."""
    if not any(names):
        return None
    return tuple(name or f"channel {number}" for number, name in enumerate(names, start=1))
