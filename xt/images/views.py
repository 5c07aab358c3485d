"""Lazy views: a part, a level, a mirrored or a turned image, each a `LargeImage` that reads through another.

Views nest in any order. A view maps windows in pixels of the level that is read, so nothing is rounded or
resampled: what a view reads is what NumPy's slicing, flip and rot90 give on the whole level.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.errors import ImageError, ShapeError
from xt.images.image import LargeImage, to_level
from xt.images.location import RationalPolynomials, Transform, compose
from xt.images.notes import BandNotes, FileNotes


class View(LargeImage):
    """What all views share. Closing a view closes the image it reads through."""

    def __init__(
        self,
        image: LargeImage,
        what: str,
        level_shapes: list[tuple[int, int]],
        *,
        levels: tuple[float, ...] | None = None,
        microns_per_pixel: tuple[float, float] | None = None,
        pixel_map: Transform = (1, 0, 0, 0, 1, 0),
        channels: int | None = None,
        dtype: np.dtype[Any] | None = None,
        nodata: float | Sequence[float | None] | None = None,
        fill: float | None = None,
        channel_names: Sequence[str] | None = None,
    ) -> None:
        """`pixel_map` takes (x, y) in pixels of the view to (x, y) in pixels of the image, at level 0.

        With other channels or another dtype the values are others, and so are nodata, fill and names.
        """
        same_values = channels is None and dtype is None
        super().__init__(
            f"{image.name} {what}" if what else image.name,
            level_shapes,
            image.channels if channels is None else channels,
            image.dtype if dtype is None else dtype,
            levels=levels if levels is not None else image.levels,
            microns_per_pixel=microns_per_pixel,
            crs=image.crs,
            transform=None if image.transform is None else compose(image.transform, pixel_map),
            control=None if image.control is None else image.control.seen_through(pixel_map),
            nodata=image.nodata_values if same_values else nodata,
            fill=image.fill if same_values else fill,
            channel_names=image.channel_names if same_values else channel_names,
        )
        self.image = image
        self.orientation = image.orientation
        self.alpha_bands = image.alpha_bands
        self._pixel_map = pixel_map

    @property
    def has_nodata(self) -> bool:
        return self.image.has_nodata

    @property
    def misses_alike(self) -> bool:
        return self.image.misses_alike

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        """The window of the image behind, and its level, that a window of this one shows."""
        raise NotImplementedError

    def _turned(self, window: np.ndarray) -> np.ndarray:
        """A window of the image behind as this view shows it."""
        return window

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._turned(self.image._read_level(*self._behind(y, x, height, width, level)))

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        pixels, valid = self.image._read_level_valid(*self._behind(y, x, height, width, level))
        return self._turned(pixels), self._turned(valid)

    def file_notes(self) -> FileNotes:
        notes = self.image.file_notes()
        if notes.rpcs is None:
            return notes
        return replace(
            notes, rpcs=RationalPolynomials(self.name, notes.rpcs).seen_through(self._pixel_map).rpcs
        )

    def band_notes(self) -> tuple[BandNotes, ...]:
        return tuple(notes.without_statistics() for notes in self.image.band_notes())

    def _require_open(self) -> None:
        if self.closed or self.image.closed:
            raise ImageError(f"{self.name} was closed; open it again to read from it")
        self.image._require_open()

    def close(self) -> None:
        super().close()
        self.image.close()


class Crop(View):
    """The part of an image that starts at (y, x)."""

    def __init__(self, image: LargeImage, y: int, x: int, height: int, width: int) -> None:
        y, x, height, width = (operator.index(value) for value in (y, x, height, width))
        bottom, right = y + height, x + width
        if y < 0 or x < 0 or height < 1 or width < 1 or bottom > image.shape[0] or right > image.shape[1]:
            raise ShapeError(
                f"rows {y} to {bottom} and columns {x} to {right} are not a part of {image.name}, "
                f"which is {image.shape[0]} x {image.shape[1]} pixels"
            )
        self._origins: list[tuple[int, int]] = []
        shapes = []
        for factor, (level_height, level_width) in zip(image.levels, image.level_shapes, strict=True):
            top, rows = _part(y, bottom, factor, level_height)
            left, columns = _part(x, right, factor, level_width)
            self._origins.append((top, left))
            shapes.append((rows, columns))
        super().__init__(
            image,
            f"[{y}:{bottom}, {x}:{right}]",
            shapes,
            microns_per_pixel=image.microns_per_pixel,
            pixel_map=(1, 0, x, 0, 1, y),
        )

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        top, left = self._origins[level]
        return top + y, left + x, height, width, level


class AtLevel(View):
    """An image whose full resolution is a level of another."""

    def __init__(self, image: LargeImage, level: int) -> None:
        level = operator.index(level)
        image._require_level(level)
        self._level = level
        height, width = image.level_shapes[level]
        step_y, step_x = image.shape[0] / height, image.shape[1] / width
        microns = image.microns_per_pixel
        super().__init__(
            image,
            f"at level {level}",
            list(image.level_shapes[level:]),
            levels=tuple(factor / image.levels[level] for factor in image.levels[level:]),
            microns_per_pixel=None if microns is None else (microns[0] * step_y, microns[1] * step_x),
            pixel_map=(step_x, 0, 0, 0, step_y, 0),
        )

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        return y, x, height, width, self._level + level


class Turn(NamedTuple):
    """One of the eight ways to lay an image down: first rows and columns change places, then axes are mirrored."""

    swap: bool = False
    mirror_y: bool = False
    mirror_x: bool = False

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """What (height, width) becomes; of each turn also what it was."""
        return (width, height) if self.swap else (height, width)

    def pixels(self, window: np.ndarray) -> np.ndarray:
        """A window (h, w, ...) turned, without a copy."""
        if self.swap:
            window = window.swapaxes(0, 1)
        return window[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]

    def before(
        self, y: int, x: int, height: int, width: int, shape: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """The window of the image as it was that becomes this one of the turned image, which has this shape."""
        y = shape[0] - y - height if self.mirror_y else y
        x = shape[1] - x - width if self.mirror_x else x
        return (x, y, width, height) if self.swap else (y, x, height, width)

    def pixel_map(self, height: int, width: int) -> Transform:
        """From (x, y) in the turned image, of this shape, to (x, y) in the image as it was."""
        x = (-1, 0, width) if self.mirror_x else (1, 0, 0)
        y = (0, -1, height) if self.mirror_y else (0, 1, 0)
        return (*y, *x) if self.swap else (*x, *y)


class Turned(View):
    """An image laid down otherwise: mirrored, or turned by quarters, or both."""

    def __init__(self, image: LargeImage, what: str, turn: Turn) -> None:
        self.turn = turn
        shapes = [turn.shape(*shape) for shape in image.level_shapes]
        microns = image.microns_per_pixel
        super().__init__(
            image,
            what,
            shapes,
            microns_per_pixel=microns[::-1] if microns is not None and turn.swap else microns,
            pixel_map=turn.pixel_map(*shapes[0]),
        )

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        return *self.turn.before(y, x, height, width, self.level_shapes[level]), level

    def _turned(self, window: np.ndarray) -> np.ndarray:
        # torch takes no arrays with negative strides.
        return np.ascontiguousarray(self.turn.pixels(window))


class Flip(Turned):
    """An image mirrored top to bottom ("y") or left to right ("x")."""

    def __init__(self, image: LargeImage, axis: str) -> None:
        if axis not in ("y", "x"):
            raise ShapeError(f'an image is flipped along "y" or "x", not {axis!r}')
        super().__init__(image, f"flipped along {axis}", Turn(mirror_y=axis == "y", mirror_x=axis == "x"))


class Rotate(Turned):
    """An image turned counter-clockwise by quarter turns."""

    def __init__(self, image: LargeImage, quarter_turns: int) -> None:
        turns = operator.index(quarter_turns) % 4
        turn = Turn(swap=turns % 2 == 1, mirror_y=turns in (1, 2), mirror_x=turns in (2, 3))
        super().__init__(image, f"rotated by {90 * turns} degrees", turn)


def _part(start: int, stop: int, factor: float, size: int) -> tuple[int, int]:
    """First pixel and number of pixels of a level for a part of level 0; never empty, never beyond it."""
    first = min(to_level(start, factor), size - 1)
    last = min(max(to_level(stop, factor), first + 1), size)
    return first, last - first
