"""How a GeoTIFF that we write says what is missing: by a value that no pixel has, or by a mask for all channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.images.image import LargeImage, fits

# y, x, height, width.
Window = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What the file is to say.

    Attributes:
        nodata: the value of missing pixels.
        has_mask: whether it has a mask: of what is missing in all channels.
        lost: pixels that are missing in some channels only, which neither can say.
    """

    nodata: float | None = None
    has_mask: bool = False
    lost: int = 0

    def write(self, pixels: np.ndarray, valid: NDArray[np.bool_], dataset: Any, window: Any) -> None:
        """Say it of a window (height, width, channels); `pixels` is changed where they are missing by a value."""
        if self.has_mask:
            dataset.write_mask(valid.any(axis=2), window=window)
        elif self.nodata is not None:
            pixels[~valid] = self.nodata


def missing_of(image: LargeImage, windows: Iterable[Window]) -> Missing:
    """What a file of this image is to say.

    Args:
        windows: that the image is made of, should it have to be gone through.
    """
    if not image.has_nodata or image.nodata is not None:
        return Missing(nodata=image.nodata)
    if image.misses_alike:
        return Missing(has_mask=True)
    if image.dtype.kind == "f":
        return Missing(nodata=float("nan"))
    return _by_free_value(image, windows)


def _by_free_value(image: LargeImage, windows: Iterable[Window]) -> Missing:
    """By an integer that no pixel has, such as the nodata value of one of the channels; where there is none, a mask."""
    limits = (0, 1) if image.dtype.kind == "b" else (np.iinfo(image.dtype).min, np.iinfo(image.dtype).max)
    values = [
        value for value in (*image.nodata_values, *limits) if value is not None and fits(value, image.dtype)
    ]
    free = list(dict.fromkeys(int(value) for value in values))
    partly = 0
    for window in windows:
        pixels, valid = image.read_valid(*window)
        there = pixels[valid]
        free = [value for value in free if not (there == value).any()]
        partly += int((valid.any(axis=2) & ~valid.all(axis=2)).sum())
    if partly and free:
        return Missing(nodata=free[0])
    return Missing(has_mask=True, lost=partly)
