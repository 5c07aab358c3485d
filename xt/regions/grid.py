"""Nested tokenization: which regions an image has, in which order, which are skipped.

Plain arithmetic: no pixels, no torch. Regions tile the image from the top left; those at the bottom and right edge
overhang it, so every pixel lies in exactly one region whatever the image's size. Source: xT (arXiv:2403.01915),
section 3.1, which needs square images and exact multiples; this does not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from xt.images import LargeImage


class Region(NamedTuple):
    """A square window of an image, in its level-0 pixels, half-open; it may overhang the bottom and right edge."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionGrid:
    """The regions of one image, in reading order.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        region_size: side of a region, in pixels.
        order: "raster" (row by row), "serpentine" (every other row backwards) or "hilbert" (neighbours in the
            sequence are neighbours in the image).
        mask: (rows, columns), True where a region is wanted; None for all of them.

    Raises:
        ShapeError: a size is not positive, or the mask is not (rows, columns).
        ConfigError: the order is unknown.
    """

    height: int
    width: int
    region_size: int
    order: str = "raster"
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.region_size) < 1:
            raise ShapeError(
                f"a grid needs positive sizes, got an image of {self.height} x {self.width} "
                f"and regions of {self.region_size} pixels"
            )
        if self.order not in ORDERS:
            raise ConfigError(f"unknown order {self.order!r}: choose one of {', '.join(ORDERS)}")
        if self.mask is not None and self.mask.shape != (self.rows, self.columns):
            raise ShapeError(
                f"the grid has {self.rows} x {self.columns} regions, its mask has shape {self.mask.shape}; "
                "RegionGrid.from_image takes a mask of any resolution"
            )

    @classmethod
    def from_image(
        cls,
        image: "LargeImage",
        region_size: int,
        order: str = "raster",
        foreground: NDArray[np.bool_] | None = None,
    ) -> "RegionGrid":
        """The grid of an image.

        Args:
            foreground: (any height, any width), spanning the whole image at whatever resolution; a region is kept
                if any foreground touches it.
        """
        height, width = image.shape
        grid = cls(height=height, width=width, region_size=region_size, order=order)
        if foreground is None:
            return grid
        mask = _touched(np.asarray(foreground, dtype=bool), grid)
        return cls(height=height, width=width, region_size=region_size, order=order, mask=mask)

    @property
    def rows(self) -> int:
        return -(-self.height // self.region_size)

    @property
    def columns(self) -> int:
        return -(-self.width // self.region_size)

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """(N, 2): row and column of each kept region, in reading order."""
        cells = ORDERS[self.order](self.rows, self.columns)
        return cells if self.mask is None else cells[self.mask[cells[:, 0], cells[:, 1]]]

    @property
    def origins(self) -> NDArray[np.int64]:
        """(N, 2): y and x of each kept region's top left pixel, in reading order."""
        return self.cells * self.region_size

    @property
    def leaves(self) -> "RegionGrid":
        """The regions that answers about every place are of: these. See `PyramidGrid.leaves`."""
        return self

    def covering(self) -> NDArray[np.int64]:
        """(rows, columns) of all regions: the number of each in the sequence, -1 of those that are skipped."""
        numbers = np.full((self.rows, self.columns), -1, dtype=np.int64)
        numbers[self.cells[:, 0], self.cells[:, 1]] = np.arange(len(self))
        return numbers

    def _repr_html_(self) -> str:
        from xt.images.notebook import card, picture

        everything = self.rows * self.columns
        rows = [
            ("regions", f"{len(self):,} of {everything:,} ({self.rows:,} x {self.columns:,})"),
            ("region size", f"{self.region_size} x {self.region_size} pixels"),
            ("order", self.order),
        ]
        wanted = np.ones((self.rows, self.columns), bool) if self.mask is None else self.mask
        y, x = np.indices(wanted.shape)
        # A chessboard, so that single regions are seen; those that are skipped are clear.
        shades = np.where((y + x) % 2 == 0, 150, 190).astype(np.uint8)
        drawn = picture(
            np.dstack([shades, shades, shades, np.where(wanted, 255, 30).astype(np.uint8)]), pixelated=True
        )
        return card(f"grid of an image of {self.height:,} x {self.width:,} pixels", rows, drawn)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int) -> Region:
        row, column = self.cells[index]
        size = self.region_size
        return Region(int(row) * size, int(column) * size, size, size)

    def __iter__(self) -> Iterator[Region]:
        return (self[index] for index in range(len(self)))

    def token_positions(self, tokens_per_side: int) -> NDArray[np.float64]:
        """(N * tokens_per_side ** 2, 2): y and x of each token's centre, in pixels of the image.

        Tokens come region by region in reading order and row by row inside a region.
        """
        step = self.region_size / tokens_per_side
        centres = (np.arange(tokens_per_side) + 0.5) * step
        inside = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(1, -1, 2)
        return (self.origins[:, None, :] + inside).reshape(-1, 2)

    def cell(self, tokens_per_side: int) -> float:
        """Side of a cell of `to_map`, in pixels."""
        return self.region_size / tokens_per_side

    def to_map(self, values: NDArray[np.floating], tokens_per_side: int) -> NDArray[np.floating]:
        """Lay one value a token out where the tokens lie.

        Args:
            values: (N * tokens_per_side ** 2,), in the order of `token_positions`.

        Returns:
            (rows * tokens_per_side, columns * tokens_per_side), NaN where regions were skipped.

        Raises:
            ShapeError: there are more or fewer values than tokens.
        """
        side = tokens_per_side
        if values.shape != (len(self) * side**2,):
            raise ShapeError(
                f"{len(self)} regions of {side**2} tokens need as many values, got shape {values.shape}"
            )
        spread = np.full((self.rows, self.columns, side, side), np.nan, dtype=values.dtype)
        spread[self.cells[:, 0], self.cells[:, 1]] = values.reshape(-1, side, side)
        return spread.transpose(0, 2, 1, 3).reshape(self.rows * side, self.columns * side)


def _touched(foreground: NDArray[np.bool_], grid: RegionGrid) -> NDArray[np.bool_]:
    """(rows, columns): which regions any foreground pixel touches, by sums over an integral image."""
    if foreground.ndim != 2 or foreground.size == 0:
        raise ShapeError(f"a foreground mask has two axes (height, width), got shape {foreground.shape}")
    integral = np.zeros((foreground.shape[0] + 1, foreground.shape[1] + 1), dtype=np.int64)
    integral[1:, 1:] = foreground.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    top, bottom = _spans(grid.rows, grid.region_size, grid.height, foreground.shape[0])
    left, right = _spans(grid.columns, grid.region_size, grid.width, foreground.shape[1])
    counts = (
        integral[np.ix_(bottom, right)]
        - integral[np.ix_(top, right)]
        - integral[np.ix_(bottom, left)]
        + integral[np.ix_(top, left)]
    )
    return counts > 0


def _spans(
    num_regions: int, region_size: int, image_size: int, mask_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one-past-last mask pixel that each region touches along one axis, in exact integer arithmetic."""
    starts = np.arange(num_regions, dtype=np.int64) * region_size
    stops = np.minimum(starts + region_size, image_size)
    return starts * mask_size // image_size, -(-stops * mask_size // image_size)


def _raster(rows: int, columns: int) -> NDArray[np.int64]:
    row, column = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
    return np.stack([row, column], axis=1)


def _serpentine(rows: int, columns: int) -> NDArray[np.int64]:
    cells = _raster(rows, columns)
    backwards = cells[:, 0] % 2 == 1
    cells[backwards, 1] = columns - 1 - cells[backwards, 1]
    return cells


def _hilbert(rows: int, columns: int) -> NDArray[np.int64]:
    """Cells along the Hilbert curve of the smallest enclosing power-of-two square, those outside left out."""
    cells = _raster(rows, columns)
    y, x = cells[:, 0].copy(), cells[:, 1].copy()
    distance = np.zeros(len(cells), dtype=np.int64)
    side = 1 << (max(rows, columns) - 1).bit_length()
    quadrant = side // 2
    while quadrant:
        right, lower = (x & quadrant) > 0, (y & quadrant) > 0
        distance += quadrant**2 * ((3 * right) ^ lower)
        # Each quadrant holds the same curve, turned: mirror and transpose its coordinates.
        mirror = ~lower & right
        x[mirror], y[mirror] = side - 1 - x[mirror], side - 1 - y[mirror]
        x[~lower], y[~lower] = y[~lower], x[~lower]
        quadrant //= 2
    return cells[np.argsort(distance, kind="stable")]


ORDERS: dict[str, Callable[[int, int], NDArray[np.int64]]] = {
    "raster": _raster,
    "serpentine": _serpentine,
    "hilbert": _hilbert,
}
