"""An image on another pixel grid over the same field, made as it is read: `at_resolution`, and layers of a stack.

Each pixel is a weighted mean of pixels of one level, the coarsest that is not coarser than what is asked for. The
weights depend on where the pixel lies and on nothing else, so that windows have no seams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, ShapeError
from xt.images.image import LargeImage, fits, invertible, lengths_or_none
from xt.images.location import Transform
from xt.images.taps import Taps, are_blocks, block_mean, block_mean_of_rows, taps
from xt.images.views import View

Resampling = Literal["bilinear", "nearest"]

# What is held of the level that is read from, at a time.
_SOURCE_BYTES = 16 * 2**20
# A grid that drifts from a level's by less than this over the whole image, in pixels, is that level.
_DRIFT = 1e-3


@dataclass(frozen=True)
class Grid:
    """Pixels over an image, from its top left corner on.

    Attributes:
        shape: (height, width).
        step: (y, x), how many of the image's own pixels (level 0) one pixel spans.
    """

    shape: tuple[int, int]
    step: tuple[float, float]


class Resampled(View):
    """An image on other grids, one for each level.

    Args:
        grids: level 0 first.
        resampling: "bilinear": the mean over each pixel's area where it shrinks the image, bilinear interpolation
            where it enlarges it; pixels that hold nothing have no part in it, and one is missing if more than half of
            it is. "nearest": the pixel at its centre, for class numbers.
    """

    def __init__(
        self,
        image: LargeImage,
        grids: Sequence[Grid],
        what: str,
        resampling: str = "bilinear",
        levels: tuple[float, ...] | None = None,
    ) -> None:
        if resampling not in ("bilinear", "nearest"):
            raise ConfigError(
                f'{image.name} is resampled by "bilinear" or "nearest" (for class numbers), not {resampling!r}'
            )
        step_y, step_x = grids[0].step
        microns = image.microns_per_pixel
        super().__init__(
            image,
            what,
            [grid.shape for grid in grids],
            levels=levels
            if levels is not None
            else tuple(_mean(grid.step) / _mean(grids[0].step) for grid in grids),
            microns_per_pixel=None if microns is None else (microns[0] * step_y, microns[1] * step_x),
            pixel_map=(step_x, 0, 0, 0, step_y, 0),
        )
        self._nearest = resampling == "nearest"
        self._sources = [_source(image, grid) for grid in grids]

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        source, step = self._sources[level]
        if step is None:
            return self.image._read_level(y, x, height, width, source)
        return self._resample(y, x, height, width, level)[0]

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        source, step = self._sources[level]
        if step is None:
            return self.image._read_level_valid(y, x, height, width, source)
        return self._resample(y, x, height, width, level)

    def _resample(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        source, step = self._sources[level]
        assert step is not None
        shape = self.image.level_shapes[source]
        rows = taps(y, height, step[0], shape[0], self._nearest)
        columns = taps(x, width, step[1], shape[1], self._nearest)
        pixel_bytes = self.channels * self.dtype.itemsize
        if rows.span * columns.span * pixel_bytes > _SOURCE_BYTES and max(height, width) > 1:
            return self._resample_halves(y, x, height, width, level, rows.span >= columns.span)
        pixels, valid = self.image._read_level_valid(
            rows.first, columns.first, rows.span, columns.span, source
        )
        if not self._nearest and are_blocks(step, pixels) and valid.all():
            mean = self._mean_of_blocks(pixels, rows, columns, (int(step[0]), int(step[1])))
            return mean, np.ones(mean.shape, np.bool_)
        if self._nearest:
            places = np.ix_(rows.index[0], columns.index[0])
            return pixels[places], valid[places]
        return self._mean_of(pixels, self.image._usable(pixels, valid), rows, columns)

    def _resample_halves(
        self, y: int, x: int, height: int, width: int, level: int, tall: bool
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        if (tall and height > 1) or width == 1:
            half = height // 2
            parts = [(y, x, half, width), (y + half, x, height - half, width)]
        else:
            half = width // 2
            parts = [(y, x, height, half), (y, x + half, height, width - half)]
        axis = 0 if parts[0][1] == parts[1][1] else 1
        read = [self._resample(*part, level) for part in parts]
        return np.concatenate([pixels for pixels, _ in read], axis), np.concatenate(
            [valid for _, valid in read], axis
        )

    def _mean_of(
        self, pixels: np.ndarray, valid: NDArray[np.bool_], rows: Taps, columns: Taps
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        working = np.float32 if self.dtype.itemsize <= 2 or self.dtype == np.float32 else np.float64
        if valid.all():
            mean = columns.along(rows.along(pixels.astype(working), 0), 1)
            return self._in_own_type(mean), np.ones(mean.shape, np.bool_)
        mean = columns.along(rows.along(np.where(valid, pixels, 0).astype(working), 0), 1)
        # Exactly 0 where everything is there, so that such pixels come out as in a window without gaps.
        missing = columns.along(rows.along((~valid).astype(working), 0), 1)
        there = missing <= 0.5
        np.divide(mean, 1 - missing, out=mean, where=there & (missing > 0))
        result = self._in_own_type(mean)
        for channel, nodata in enumerate(self.nodata_values):
            if nodata is not None:
                _avoid(result[..., channel], nodata, there[..., channel])
        result[~there] = self.fill
        return result, there

    def _mean_of_blocks(
        self, pixels: np.ndarray, rows: Taps, columns: Taps, block: tuple[int, int]
    ) -> np.ndarray:
        """As `_mean_of` where all is data and each pixel but the last, which may overhang, is the mean of a block."""
        full = tuple(taps.span // side for taps, side in zip((rows, columns), block, strict=True))
        within = pixels[: full[0] * block[0], : full[1] * block[1]]
        means = self._in_own_type(block_mean(within, *block))
        if full[1] < columns.index.shape[1]:
            last = columns.last()
            right = pixels[: full[0] * block[0], last.first - columns.first :]
            edge = last.along(block_mean_of_rows(right, block[0]), 1)
            means = np.concatenate([means, self._in_own_type(edge)], axis=1)
        if full[0] < rows.index.shape[1]:
            last = rows.last()
            below = pixels[last.first - rows.first :].astype(np.float32)
            means = np.concatenate([means, self._in_own_type(columns.along(last.along(below, 0), 1))])
        return means

    def _in_own_type(self, values: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "b":
            return values >= 0.5
        if self.dtype.kind in "ui":
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return values.astype(self.dtype)


class AtResolution(Resampled):
    """An image as if it had been taken at another resolution; its coarser levels remain."""

    def __init__(self, image: LargeImage, step: tuple[float, float], what: str, resampling: str) -> None:
        shape = tuple(int(side / each + 0.5) for side, each in zip(image.shape, step, strict=True))
        if min(shape) < 1:
            raise ShapeError(
                f"{image.name} {what} would be {image.shape[0] / step[0]:.2g} x {image.shape[1] / step[1]:.2g} pixels; "
                "ask for a finer resolution"
            )
        grids = [Grid((shape[0], shape[1]), step)]
        for level, low in enumerate(image.level_shapes):
            own = _level_step(image, level)
            if own[0] > step[0] * (1 + _DRIFT) and own[1] > step[1] * (1 + _DRIFT):
                grids.append(Grid(low, own))
        super().__init__(image, grids, what, resampling)


def at_resolution(
    image: LargeImage,
    microns_per_pixel: float | tuple[float, float] | None,
    map_units_per_pixel: float | tuple[float, float] | None,
    resampling: Resampling,
) -> AtResolution:
    """See `LargeImage.at_resolution`."""
    if (microns_per_pixel is None) == (map_units_per_pixel is None):
        raise ConfigError("at_resolution takes either microns_per_pixel or map_units_per_pixel")
    if microns_per_pixel is not None:
        asked, unit = _pair(microns_per_pixel), "micrometres"
        own = lengths_or_none(image.microns_per_pixel)
        if own is None:
            hint = (
                "it lies on a map: ask for map_units_per_pixel"
                if image.transform is not None
                else "set image.microns_per_pixel = (y, x) if you know it"
            )
            raise ConfigError(f"{image.name} does not say how many micrometres a pixel is; {hint}")
    else:
        assert map_units_per_pixel is not None
        asked, unit = _pair(map_units_per_pixel), "map units"
        transform = invertible(image.transform)
        if transform is None:
            hint = "ask for microns_per_pixel" if image.microns_per_pixel else "it has no coordinates"
            raise ConfigError(f"{image.name} does not say how many map units a pixel is; {hint}")
        own = map_units(transform)
    size = f"{asked[0]:g}" if asked[0] == asked[1] else f"{asked[0]:g} x {asked[1]:g}"
    low = AtResolution(
        image, (asked[0] / own[0], asked[1] / own[1]), f"at {size} {unit} per pixel", resampling
    )
    if microns_per_pixel is not None:
        # Not a rounding error beside it.
        low.microns_per_pixel = asked
    return low


def shrunk(image: LargeImage, scale: int) -> LargeImage:
    """An image at 1/scale, made of its coarsest level that is fine enough; what is left over at the bottom and right
    edge makes a pixel of its own, the mean of what is there of it."""
    if scale == 1:
        return image
    shape = (-(-image.shape[0] // scale), -(-image.shape[1] // scale))
    return Resampled(image, [Grid(shape, (scale, scale))], f"at 1/{scale}", "bilinear")


def on_grid(
    image: LargeImage, shape: tuple[int, int], step: tuple[float, float], resampling: Resampling
) -> Resampled:
    """An image on one grid from its top left corner on, made of its full resolution alone: what a file's coarser levels
    hold of class numbers may be their means.

    Args:
        shape, step: as of `Grid`.
    """
    what = f"on a grid of {shape[0]} x {shape[1]} pixels"
    return Resampled(_FullResolution(image), [Grid(shape, step)], what, resampling)


class _FullResolution(View):
    """An image without its coarser levels."""

    def __init__(self, image: LargeImage) -> None:
        super().__init__(image, "", [image.shape], levels=(1.0,), microns_per_pixel=image.microns_per_pixel)
        self.name = image.name

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        return y, x, height, width, 0


def map_units(transform: Transform) -> tuple[float, float]:
    """Length of a pixel's sides (y, x) on the map."""
    a, b, _, d, e, _ = transform
    return float(np.hypot(b, e)), float(np.hypot(a, d))


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    pair = (float(value), float(value)) if isinstance(value, (int, float)) else tuple(map(float, value))
    if len(pair) != 2 or not all(np.isfinite(pair)) or min(pair) <= 0:
        raise ConfigError(f"a resolution is a positive number or two, (y, x), not {value!r}")
    return pair[0], pair[1]


def _level_step(image: LargeImage, level: int) -> tuple[float, float]:
    height, width = image.level_shapes[level]
    return image.shape[0] / height, image.shape[1] / width


def _source(image: LargeImage, grid: Grid) -> tuple[int, tuple[float, float] | None]:
    """The level to read a grid from, and how many of its pixels one of the grid spans; None where it is that level."""
    fine_enough = [
        level
        for level in range(len(image.levels))
        if all(
            own <= asked * (1 + _DRIFT)
            for own, asked in zip(_level_step(image, level), grid.step, strict=True)
        )
    ]
    level = max(fine_enough, default=0, key=lambda level: image.levels[level])
    own = _level_step(image, level)
    steps = grid.step[0] / own[0], grid.step[1] / own[1]
    drift = max(abs(step - 1) * side for step, side in zip(steps, grid.shape, strict=True))
    same = grid.shape == image.level_shapes[level] and drift < _DRIFT
    return level, None if same else steps


def _avoid(values: np.ndarray, nodata: float, there: NDArray[np.bool_]) -> None:
    """Move means that happen to be the nodata value by the smallest step."""
    if values.dtype.kind == "b" or not np.isfinite(nodata):
        return
    hit = there & (values == nodata)
    if values.dtype.kind == "f":
        values[hit] = np.nextafter(values.dtype.type(nodata), values.dtype.type(np.inf))
    else:
        values[hit] = int(nodata) + 1 if fits(nodata + 1, values.dtype) else int(nodata) - 1


def _mean(pair: tuple[float, float]) -> float:
    return (pair[0] + pair[1]) / 2


def same_field(image: LargeImage, reference: LargeImage, resampling: str, what: str) -> Resampled:
    """The image on the reference's grids, both covering the same field whatever their shapes."""
    grids: list[Grid] = []
    for height, width in reference.level_shapes:
        grids.append(Grid((height, width), (image.shape[0] / height, image.shape[1] / width)))
    return Resampled(image, grids, what, resampling, levels=reference.levels)
