"""The regions that a plan is about."""

import os
from dataclasses import replace
from numbers import Integral
from typing import NamedTuple

import numpy as np

from xt.errors import ConfigError, ShapeError
from xt.images import LargeImage, open_image
from xt.model.xt import XT
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.scattered import PixelRegions


class PlannedImage(NamedTuple):
    """What a plan is about.

    Attributes:
        image: None where only a size is known.
        grid: the regions that are looked at.
        training: those that a training step looks at.
        pixel_bytes: of a pixel with its mask, all channels together.
    """

    image: LargeImage | None
    grid: PixelRegions
    training: PixelRegions
    pixel_bytes: int

    def part(self, share: float) -> "PlannedImage":
        """With so many of the regions, see `part_of`."""
        return self._replace(grid=part_of(self.grid, share), training=part_of(self.training, share))


def planned_image(model: XT, image: tuple[int, int] | LargeImage | str | os.PathLike[str]) -> PlannedImage:
    """An image, or the size of one, as the model takes it."""
    region_size, side = model.region_encoder.region_size, model.config.image_size
    if isinstance(image, tuple) and all(isinstance(length, Integral) for length in image):
        if len(image) != 2 or min(image) < 1:
            raise ShapeError(f"expected an image's (height, width) in pixels, got {image}")
        # A photograph becomes a square, whatever its size.
        height, width = image if side is None else (side, side)
        fine = RegionGrid(height=height, width=width, region_size=region_size, order=model.config.order)
        # Which of them a choice takes is not known without pixels.
        return PlannedImage(None, *_at_most(model, fine), 2 * model.config.in_channels)
    opened = model.as_read(open_image(image)).image
    grid = model.grid(opened)
    if side is not None:
        return PlannedImage(None, grid, grid, 2 * model.config.in_channels)
    model.check([opened], [grid])
    # What the model itself opens is known when it is run alone.
    grids = (grid, grid) if model.scorer is None else _at_most(model, model.fine_grid(opened))
    return PlannedImage(opened, *grids, (opened.dtype.itemsize + 1) * opened.channels)


def _at_most(model: XT, fine: RegionGrid) -> tuple[PixelRegions, PixelRegions]:
    """As many regions as the model looks at, and as it does while it learns."""
    most = model.reading.choice.most
    usual, training = most(fine), most(fine, training=True)
    grid = part_of(fine, usual / len(fine))
    return grid, grid if training == usual else part_of(fine, training / len(fine))


def part_of(grid: PixelRegions, share: float) -> PixelRegions:
    """A grid of so many of the regions, whichever."""
    if not 0 < share <= 1:
        raise ConfigError(
            f"share must be above 0 and at most 1, the share of regions that are looked at, got {share}"
        )
    number = max(1, round(share * len(grid)))
    if isinstance(grid, PyramidGrid):
        return replace(grid, places=grid.places[:number])
    cells = grid.cells[:number]
    mask = np.zeros((grid.rows, grid.columns), dtype=bool)
    mask[cells[:, 0], cells[:, 1]] = True
    return replace(grid, mask=mask)
