"""Relevance maps: the weight that each token had in the answer, laid out on the image's own coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError
from xt.images.location import Control, Transform, compose
from xt.regions.scattered import Regions

if TYPE_CHECKING:
    from xt.images import LargeImage

PIXEL_TAG = "XT_PIXEL_SHAPE"
"""Of a file of a map: height and width of one of its pixels in pixels of the image, with a blank between."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RelevanceMap:
    """One value a token, as an image of its own that lies on the image it tells about.

    The pooling weights of an image sum to 1, so a weight's size depends on how many tokens there are.
    `values` are the weights times the number of tokens: 1 is a token that counts as much as the average one,
    5 one that counts five times as much, whatever the image's size; the mean over all tokens is 1.

    Attributes:
        values: (height, width) float32; NaN where regions were skipped. Tokens that lie wholly in the
            padding at the bottom and right edge are left out.
        pixel_size: side of one pixel of the map, in level-0 pixels of the image; of an image that was resized for the
            model, or read at another resolution, in pixels of what it was resized to.
        image_shape: (height, width) of the image; the map's last row and column may reach beyond it.
        transform: of the map, six numbers as `LargeImage.transform`; None without one.
        control: of the map, what locates it where there is no transform, as `LargeImage.control`.
        crs: of the image.
        microns_per_pixel: (y, x) of the map.
        stretch: (y, x), by which the image is larger than what it was resized to for the model.
    """

    values: NDArray[np.float32]
    pixel_size: float
    image_shape: tuple[int, int]
    transform: Transform | None = None
    control: Control | None = None
    crs: str | None = None
    microns_per_pixel: tuple[float, float] | None = None
    stretch: tuple[float, float] = (1.0, 1.0)

    @property
    def pixel_shape(self) -> tuple[float, float]:
        """(height, width) of one pixel of the map, in level-0 pixels of the image."""
        return self.pixel_size * self.stretch[0], self.pixel_size * self.stretch[1]


def relevance_map(
    weights: NDArray[np.floating],
    grid: Regions,
    tokens_per_side: int,
    image: "LargeImage | None" = None,
    stretch: tuple[float, float] | None = None,
    mean: float | None = None,
) -> RelevanceMap:
    """Lay the tokens' weights out where the tokens lie.

    Args:
        weights: (N * tokens_per_side ** 2,) in the grid's order, not negative; summing to 1 or not, they are
            scaled so that their mean is 1.
        image: where the coordinates come from; the map has none without it.
        stretch: see `RelevanceMap`; None where the grid covers the image from edge to edge.
        mean: of the weights of all that had a part in the answer, as of a case of several images; None for of these.
    Raises:
        ShapeError: there are more or fewer weights than tokens.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(grid) * tokens_per_side**2,):
        raise ShapeError(
            f"{len(grid)} regions of {tokens_per_side**2} tokens need as many weights, got {weights.shape}"
        )
    mean = float(weights.mean()) if mean is None else mean
    values = grid.to_map(weights / mean if mean > 0 else weights, tokens_per_side)
    step = grid.cell(tokens_per_side)
    height, width = -int(-grid.height // step), -int(-grid.width // step)
    mpp = image.microns_per_pixel if image is not None else None
    shape = (grid.height, grid.width) if image is None else image.shape
    stretch = stretch or (shape[0] / grid.height, shape[1] / grid.width)
    down, across = step * stretch[0], step * stretch[1]
    transform = image.transform if image is not None else None
    control = image.control if image is not None else None
    # The origin is the outer corner of the top left pixel, so it stays; only the pixels grow.
    grown: Transform = (across, 0, 0, 0, down, 0)
    return RelevanceMap(
        values=values[:height, :width].astype(np.float32),
        pixel_size=step,
        image_shape=shape,
        transform=None if transform is None else compose(transform, grown),
        control=None if control is None else control.seen_through(grown),
        crs=image.crs if image is not None else None,
        microns_per_pixel=(mpp[0] * down, mpp[1] * across) if mpp is not None else None,
        stretch=stretch,
    )


def mean_map(maps: Sequence[RelevanceMap]) -> RelevanceMap:
    """The mean of maps of one image, with the pixels of the finest of them, whose sides are a power of two smaller."""
    finest = min(maps, key=lambda one: one.pixel_size)
    height, width = finest.values.shape
    laid = []
    for one in maps:
        wider = round(one.pixel_size / finest.pixel_size)
        laid.append(one.values.repeat(wider, axis=0).repeat(wider, axis=1)[:height, :width])
    values = np.stack(laid)
    # Where one of them has skipped what others have not, it is the mean of those.
    there = np.isfinite(values)
    number = there.sum(axis=0)
    total = np.where(there, values, 0).sum(axis=0) / np.maximum(number, 1)
    return replace(finest, values=np.where(number > 0, total, np.nan).astype(np.float32))
