"""Regions of several scales: a quad-tree's leaves, which part the image, or a pyramid, whose levels overlap.

Plain arithmetic, as of `RegionGrid`: no pixels, no torch. A region of scale s, a power of two, covers s times as many
pixels a side as one of the grid below it, and is read at 1/s: whatever its scale, it costs the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError
from xt.regions.grid import ORDERS, Region, RegionGrid


@dataclass(frozen=True, eq=False)
class PyramidGrid:
    """Regions of mixed scales of one image; stands where a `RegionGrid` does.

    Where no two overlap they come in the order of the grid below, each where its first fine region stood; where some
    do, scale by scale, the coarsest first.

    Attributes:
        fine: the grid of all regions that are wanted, at full resolution.
        places: (N, 3): scale, row and column of each, counted in regions of its scale; put in order.

    Raises:
        ShapeError: these are no places of regions in the image, or one is there twice.
    """

    fine: RegionGrid
    places: NDArray[np.int64]

    def __post_init__(self) -> None:
        places = np.asarray(self.places, dtype=np.int64)
        _check(places, self.fine)
        scales = places[:, 0]
        rank, covered = _first_ranks(self.fine, places), _times_covered(self.fine, places)
        overlapping = bool((covered > 1).any())
        sequence = np.lexsort((rank, -scales)) if overlapping else np.argsort(rank, kind="stable")
        object.__setattr__(self, "places", places[sequence])

    @classmethod
    def coarsest(cls, fine: RegionGrid, levels: int) -> "PyramidGrid":
        """All regions of the coarsest of so many levels that hold anything that is wanted.

        One region that covers the whole image is the coarsest there is.

        Raises:
            ShapeError: there is not at least one level.
        """
        if levels < 1:
            raise ShapeError(f"a grid has at least 1 level, got {levels}")
        enough = (max(fine.rows, fine.columns) - 1).bit_length()
        scale = 1 << min(levels - 1, enough)
        cells = np.argwhere(wanted_at(fine, scale))
        return cls(fine, np.insert(cells, 0, scale, axis=1))

    @property
    def height(self) -> int:
        return self.fine.height

    @property
    def width(self) -> int:
        return self.fine.width

    @property
    def region_size(self) -> int:
        """Side of what is read for a region, in pixels at its scale."""
        return self.fine.region_size

    @property
    def order(self) -> str:
        return self.fine.order

    @property
    def scales(self) -> NDArray[np.int64]:
        """(N,): how many pixels of the image a side of one pixel is, as each region is read."""
        return self.places[:, 0]

    @property
    def origins(self) -> NDArray[np.int64]:
        """(N, 2): y and x of each region's top left pixel."""
        origins: NDArray[np.int64] = self.places[:, 1:] * (self.region_size * self.scales[:, None])
        return origins

    @cached_property
    def is_partition(self) -> bool:
        """Whether each region of the fine grid that is wanted lies in exactly one of these."""
        covered = _times_covered(self.fine, self.places)
        return bool((covered[wanted_at(self.fine, 1)] == 1).all())

    @cached_property
    def leaves(self) -> "PyramidGrid":
        """The regions in which no finer one lies, which answers about every place are of; this grid itself where these
        are all.

        What was opened, but not all that is wanted of it, is no leaf: only `opened` and `coarsest` promise that leaves
        hold everything that is wanted, once.
        """
        scales, cells = self.places[:, :1], self.places[:, 1:]
        is_leaf = np.ones(len(self), dtype=bool)
        for scale in np.unique(scales):
            finer, here = scales[:, 0] < scale, scales[:, 0] == scale
            opened = np.zeros(_shape(self.fine, int(scale)), dtype=bool)
            opened[tuple((cells[finer] * scales[finer] // scale).T)] = True
            is_leaf[here] = ~opened[cells[here, 0], cells[here, 1]]
        return self if is_leaf.all() else replace(self, places=self.places[is_leaf])

    def covering(self) -> NDArray[np.int64]:
        """(rows, columns) of the fine grid: the number of the finest region that covers each, -1 where none does."""
        numbers = np.full((self.fine.rows, self.fine.columns), -1, dtype=np.int64)
        for scale in np.unique(self.scales)[::-1]:
            here = np.flatnonzero(self.scales == scale)
            there = np.full(_shape(self.fine, int(scale)), -1, dtype=np.int64)
            there[tuple(self.places[here, 1:].T)] = here
            spread = there.repeat(scale, axis=0).repeat(scale, axis=1)[: self.fine.rows, : self.fine.columns]
            np.copyto(numbers, spread, where=spread >= 0)
        return numbers

    def opened(self, numbers: NDArray[np.integer], keep: bool = False) -> "PyramidGrid":
        """With those regions of these numbers that have a finer level seen at it, by up to four regions each.

        Args:
            keep: the opened ones stay, too.
        """
        return self.with_opened(self.places[numbers], keep)

    def with_opened(self, places: NDArray[np.int64], keep: bool = False) -> "PyramidGrid":
        """Likewise of places (M, 3), of which some may lie in others.

        Raises:
            ShapeError: one is no region of this grid, nor of those that are opened with it.
        """
        places = np.unique(places, axis=0)
        everything = np.unique(np.concatenate([self.places, self.below(places[places[:, 0] > 1])[0]]), axis=0)
        there = np.concatenate([everything, places])
        _, first, times = np.unique(there, axis=0, return_index=True, return_counts=True)
        strange = first[(times == 1) & (first >= len(everything))]
        if len(strange):
            scale, row, column = there[strange[0]]
            raise ShapeError(
                f"a region of scale {scale} in row {row}, column {column} cannot be opened: it is not in this "
                "grid, nor in one that is opened with it"
            )
        kept = (times == 1) | (there[first, 0] == 1) | keep
        return replace(self, places=there[first[kept]])

    def below(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(M, 3): the regions of half the scale that lie in these (N, 3), where anything is wanted; one's after the
        other's. With (M,) the number of the one that each lies in."""
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        cells = (2 * places[:, None, 1:] + corners).reshape(-1, 2)
        finer = np.column_stack([np.repeat(places[:, 0] // 2, 4), cells])
        found = np.zeros(len(finer), dtype=bool)
        for scale in np.unique(finer[:, 0]):
            wanted = wanted_at(self.fine, int(scale))
            here = (finer[:, 0] == scale) & (cells < wanted.shape).all(axis=1)
            found[here] = wanted[cells[here, 0], cells[here, 1]]
        return finer[found], np.repeat(np.arange(len(places)), 4)[found]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Region:
        scale, row, column = map(int, self.places[index])
        side = self.region_size * scale
        return Region(row * side, column * side, side, side)

    def __iter__(self) -> Iterator[Region]:
        return (self[index] for index in range(len(self)))

    def token_positions(self, tokens_per_side: int) -> NDArray[np.float64]:
        """As of `RegionGrid`: centres, in pixels of the image."""
        step = self.region_size / tokens_per_side
        centres = (np.arange(tokens_per_side) + 0.5) * step
        inside = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(1, -1, 2)
        return (self.origins[:, None, :] + self.scales[:, None, None] * inside).reshape(-1, 2)

    def cell(self, tokens_per_side: int) -> float:
        """Side of a cell of `to_map`, in pixels: a token of the finest region there is."""
        return self._finest * self.region_size / tokens_per_side

    def to_map(self, values: NDArray[np.floating], tokens_per_side: int) -> NDArray[np.floating]:
        """Lay one value a token out where the tokens lie, those of coarse regions over all cells that they cover, finer
        ones on top.

        Args:
            values: (N * tokens_per_side ** 2,), in the order of `token_positions`.

        Returns:
            (rows, columns) of cells, NaN where there is no region.

        Raises:
            ShapeError: there are more or fewer values than tokens.
        """
        side = tokens_per_side
        if values.shape != (len(self) * side**2,):
            raise ShapeError(
                f"{len(self)} regions of {side**2} tokens need as many values, got shape {values.shape}"
            )
        rows, columns = _shape(self.fine, self._finest)
        laid = np.full((rows * side, columns * side), np.nan, dtype=values.dtype)
        for scale in np.unique(self.scales)[::-1]:
            here = self.scales == scale
            tokens = values.reshape(-1, side, side)[here]
            wide = int(scale) // self._finest
            for (row, column), block in zip(self.places[here, 1:] * (wide * side), tokens, strict=True):
                spread = block.repeat(wide, axis=0).repeat(wide, axis=1)
                part = laid[row : row + wide * side, column : column + wide * side]
                part[:] = spread[: part.shape[0], : part.shape[1]]
        return laid

    @property
    def _finest(self) -> int:
        return int(self.scales.min()) if len(self) else 1


def union(grids: Sequence[PyramidGrid]) -> tuple[PyramidGrid, list[NDArray[np.int64]]]:
    """All regions of grids of one image, each once; and of each grid the (N,) numbers of its regions among them."""
    everything = PyramidGrid(
        grids[0].fine, np.unique(np.concatenate([grid.places for grid in grids]), axis=0)
    )
    number = {tuple(place): row for row, place in enumerate(everything.places.tolist())}
    rows = [np.array([number[tuple(place)] for place in grid.places.tolist()], np.int64) for grid in grids]
    return everything, rows


def token_sizes(grid: object, tokens_per_side: int) -> NDArray[np.float64]:
    """(N * tokens_per_side ** 2,): side of each token of a grid of any kind, in pixels of the image."""
    side = grid.region_size / tokens_per_side  # type: ignore[attr-defined]
    return np.repeat(each_scale(grid) * side, tokens_per_side**2)


def scales_of(grid: object) -> NDArray[np.int64] | None:
    """(N,): the scale of each region of a grid; None where all are at full resolution."""
    return getattr(grid, "scales", None)


def each_scale(grid: object) -> NDArray[np.int64]:
    """(N,): likewise, 1 where all are at full resolution."""
    scales = scales_of(grid)
    return np.ones(len(grid), dtype=np.int64) if scales is None else scales  # type: ignore[arg-type]


def _shape(fine: RegionGrid, scale: int) -> tuple[int, int]:
    """Rows and columns of regions of this scale."""
    return -(-fine.rows // scale), -(-fine.columns // scale)


def wanted_at(fine: RegionGrid, scale: int) -> NDArray[np.bool_]:
    """(rows, columns) of that scale: which regions hold a fine one that is wanted."""
    rows, columns = _shape(fine, scale)
    if fine.mask is None:
        return np.ones((rows, columns), dtype=bool)
    return np.asarray(in_blocks(fine.mask, scale, False).any(axis=(1, 3)))


def in_blocks(values: NDArray, scale: int, filling: object) -> NDArray:
    """(rows, columns) of the fine grid -> (rows, scale, columns, scale) of a coarser one."""
    rows, columns = (-(-side // scale) for side in values.shape)
    whole = np.full((rows * scale, columns * scale), filling, dtype=values.dtype)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole.reshape(rows, scale, columns, scale)


def _first_ranks(fine: RegionGrid, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): where the first fine region in each of these stands in the grid's order."""
    cells = ORDERS[fine.order](fine.rows, fine.columns)
    ranks = np.empty((fine.rows, fine.columns), dtype=np.int64)
    ranks[cells[:, 0], cells[:, 1]] = np.arange(len(cells))
    first = np.empty(len(places), dtype=np.int64)
    for scale in np.unique(places[:, 0]):
        here = places[:, 0] == scale
        least = in_blocks(ranks, int(scale), len(cells)).min(axis=(1, 3))
        first[here] = least[places[here, 1], places[here, 2]]
    return first


def _times_covered(fine: RegionGrid, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows, columns) of the fine grid: in how many of the regions each lies."""
    times = np.zeros((fine.rows, fine.columns), dtype=np.int64)
    for scale in np.unique(places[:, 0]):
        cells = places[places[:, 0] == scale, 1:]
        there = np.zeros(_shape(fine, int(scale)), dtype=np.int64)
        there[cells[:, 0], cells[:, 1]] = 1
        spread = there.repeat(scale, axis=0).repeat(scale, axis=1)
        times += spread[: fine.rows, : fine.columns]
    return times


def _check(places: NDArray[np.int64], fine: RegionGrid) -> None:
    if places.shape[1:] != (3,):
        raise ShapeError(
            f"places of regions have shape (N, 3): scale, row and column, got shape {places.shape}"
        )
    scales = places[:, 0]
    odd = scales[(scales < 1) | (scales & (scales - 1) != 0)]
    if len(odd):
        raise ShapeError(f"a region's scale is a power of two, got {odd[0]}")
    outside = (places[:, 1:] < 0) | (places[:, 1:] * scales[:, None] >= np.array([[fine.rows, fine.columns]]))
    if outside.any():
        scale, row, column = places[outside.any(axis=1)][0]
        raise ShapeError(
            f"there is no region of scale {scale} in row {row}, column {column}: the image has {fine.rows} x "
            f"{fine.columns} regions at full resolution"
        )
    if len(np.unique(places, axis=0)) < len(places):
        raise ShapeError("a region stands twice in the places of a grid")
