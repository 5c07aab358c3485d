"""The regions that a plan is about."""

import os
from dataclasses import replace
from numbers import Integral

import numpy as np

from xt.errors import ConfigError, ShapeError
from xt.images import LargeImage, open_image
from xt.model.xt import XT
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.scattered import PixelRegions


def planned_grid(
    model: XT, image: tuple[int, int] | LargeImage | str | os.PathLike[str]
) -> tuple[LargeImage | None, PixelRegions, int]:
    """The image if there is one, its grid, and the bytes of a pixel with its mask, all channels together."""
    region_size, side = model.region_encoder.region_size, model.config.image_size
    if isinstance(image, tuple) and all(isinstance(length, Integral) for length in image):
        if len(image) != 2 or min(image) < 1:
            raise ShapeError(f"expected an image's (height, width) in pixels, got {image}")
        # A photograph becomes a square, whatever its size.
        height, width = image if side is None else (side, side)
        fine = RegionGrid(height=height, width=width, region_size=region_size, order=model.config.order)
        # Which of them a choice takes is not known without pixels, but how many at most.
        most = model.reading.choice.most(fine)
        return None, part_of(fine, most / len(fine)), 2 * model.config.in_channels
    opened = model.as_read(open_image(image)).image
    grid = model.grid(opened)
    if side is not None:
        return None, grid, 2 * model.config.in_channels
    model.check([opened], [grid])
    if model.scorer is not None:
        # What it opens is known when it is run alone; how many at most, before.
        fine = model.fine_grid(opened)
        grid = part_of(fine, model.reading.choice.most(fine) / len(fine))
    return opened, grid, (opened.dtype.itemsize + 1) * opened.channels


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
