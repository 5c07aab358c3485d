"""Regions that lie anywhere in an image: of another program's grid, sparse or overlapping. No pixels, no torch."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

# Of what is laid out as a map; finer ones would take more memory than they show.
_MOST_CELLS = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class ScatteredRegions:
    """Square regions of one image in the order in which they were found; stands where a `RegionGrid` does.

    Attributes:
        height: of the image, in its level-0 pixels.
        width: of the image, in pixels.
        region_size: side of a region, in pixels, > 0; need not be whole.
        origins: (N, 2), y and x of each region's top left pixel.

    Raises:
        ShapeError: a size is not positive, or the origins are not (N, 2).
    """

    height: int
    width: int
    region_size: float
    origins: NDArray[np.float64]

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.region_size) <= 0 or self.origins.shape[1:] != (2,):
            raise ShapeError(
                f"regions need positive sizes and origins (N, 2), got an image of {self.height} x {self.width}, "
                f"regions of {self.region_size} pixels and origins {self.origins.shape}"
            )

    def __len__(self) -> int:
        return len(self.origins)

    def token_positions(self, tokens_per_side: int) -> NDArray[np.float64]:
        """As of `RegionGrid`."""
        centres = (np.arange(tokens_per_side) + 0.5) * (self.region_size / tokens_per_side)
        inside = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(1, -1, 2)
        return (self.origins[:, None, :] + inside).reshape(-1, 2)

    def flipped(self, axis: str) -> "ScatteredRegions":
        """Where they lie in the image upside down ("y") or mirrored ("x")."""
        along = ("y", "x").index(axis)
        origins = self.origins.copy()
        origins[:, along] = (self.height, self.width)[along] - self.region_size - origins[:, along]
        return replace(self, origins=origins)

    def rotated(self, quarter_turns: int) -> "ScatteredRegions":
        """Where they lie in the image turned counter-clockwise."""
        found = self
        for _ in range(quarter_turns % 4):
            y, x = found.origins.T
            origins = np.stack([found.width - found.region_size - x, y], axis=1)
            found = replace(found, height=found.width, width=found.height, origins=origins)
        return found

    def cell(self, tokens_per_side: int) -> float:
        """Side of a cell of `to_map`, in pixels: a token, what overlapping ones share, or half of either where they lie
        on no common lattice."""
        step = min(self.region_size, usual_step(self.origins) or self.region_size) / tokens_per_side
        if np.any(self.origins % step > 1e-6):
            step /= 2
        return float(max(step, np.sqrt(self.height * self.width / _MOST_CELLS)))

    def to_map(self, values: NDArray[np.floating], tokens_per_side: int) -> NDArray[np.floating]:
        """Lay one value a token out where the tokens lie, cell by cell the mean of those that cover its centre.

        Args:
            values: (N * tokens_per_side ** 2,), in the order of `token_positions`.

        Returns:
            (rows, columns) from the image's top left corner on, NaN where there is no token.

        Raises:
            ShapeError: there are more or fewer values than tokens.
        """
        places = self.token_positions(tokens_per_side)
        if values.shape != (len(places),):
            raise ShapeError(f"{len(places)} tokens need as many values, got shape {values.shape}")
        cell, side = self.cell(tokens_per_side), self.region_size / tokens_per_side
        rows, columns = (int(np.ceil(length / cell - 1e-9)) for length in (self.height, self.width))
        # The cells whose centres lie in a token, half-open; at least one, however coarse the map.
        first = np.ceil((places - side / 2) / cell - 0.5 - 1e-9).astype(np.int64)
        last = np.maximum(np.ceil((places + side / 2) / cell - 0.5 - 1e-9).astype(np.int64), first + 1)
        total, count = np.zeros((rows, columns)), np.zeros((rows, columns))
        for down in range(int((last - first)[:, 0].max(initial=0))):
            for across in range(int((last - first)[:, 1].max(initial=0))):
                y, x = first[:, 0] + down, first[:, 1] + across
                inside = (
                    (y < last[:, 0]) & (x < last[:, 1]) & (y >= 0) & (x >= 0) & (y < rows) & (x < columns)
                )
                np.add.at(total, (y[inside], x[inside]), values[inside])
                np.add.at(count, (y[inside], x[inside]), 1)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / count, np.nan).astype(values.dtype)


PixelRegions = RegionGrid | PyramidGrid
"""Which regions of an image with pixels there are and where: of its grid, or of several scales."""
Regions = PixelRegions | ScatteredRegions
"""Likewise of any image: also wherever they were found."""


def usual_step(origins: NDArray[np.floating]) -> float | None:
    """The most frequent distance from one origin to the next one in its row or column; None where none share any."""
    steps = []
    for along in (0, 1):
        order = np.lexsort((origins[:, along], origins[:, 1 - along]))
        ahead = np.diff(origins[order], axis=0)
        steps.append(ahead[(ahead[:, 1 - along] == 0) & (ahead[:, along] > 0)][:, along])
    values, counts = np.unique(np.concatenate(steps), return_counts=True)
    return float(values[counts.argmax()]) if len(values) else None
