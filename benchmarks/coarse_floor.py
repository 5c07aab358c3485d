"""How little of a mask could differ if coarse regions were answered, or chosen, as well as can be.

A network's own mask of all regions is what is to be met. Of each region of each scale it is counted how many pixels an
answer at that scale gets wrong: the network's own coarse answer, or what it says finely, shrunk by means of blocks and
enlarged again as coarse answers are, which no answer at that scale does much better than. From these counts follows
what any choice of regions loses, and which choice within a budget loses least.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.regions.choice import RegionChoice
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid, in_blocks
from xt.results.enlarging import enlarged

Errors = Mapping[int, NDArray[np.int64]]
"""Of each scale (rows, columns): how many pixels are wrong in each region of it."""


class AtOneScale(RegionChoice):
    """Every region of the coarsest level, and nothing else."""

    looks = False

    def first(self, image: LargeImage | None, fine: RegionGrid) -> PyramidGrid:
        return PyramidGrid.coarsest(fine, self.levels)


def errors_of(masks: Mapping[int, NDArray[np.bool_]], side: int) -> Errors:
    """Of masks of each scale, (height, width) each, against that of scale 1, in regions of so many pixels a side."""
    return {scale: _in_regions(mask != masks[1], side * scale) for scale, mask in masks.items()}


def shrunk_and_enlarged(probabilities: NDArray[np.float32], scale: int, side: int) -> NDArray[np.bool_]:
    """(height, width) of a class's probabilities -> where it is likelier than not, as the best answer at that scale has
    it."""
    height, width = probabilities.shape
    there = in_blocks(np.ones((height, width), bool), scale, False)
    # Pixels of the border stand for those of the image alone.
    small = in_blocks(probabilities, scale, 0.0).sum(axis=(1, 3)) / there.sum(axis=(1, 3))
    found = np.empty((height, width), bool)
    for top in range(0, small.shape[0], side):
        for left in range(0, small.shape[1], side):
            block = small[None, top : top + side, left : left + side]
            part = found[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
            known = np.ones(block.shape[1:], bool)
            rows, columns = (slice(0, length) for length in part.shape)
            part[:] = enlarged(block, known, scale, rows, columns)[0] > 0.5
    return found


def lost_by(grid: PyramidGrid, errors: Errors) -> int:
    """How many pixels are wrong with these regions, none of which overlap."""
    return sum(int(errors[scale][row, column]) for scale, row, column in grid.places.tolist())


def least_lost(errors: Errors, budget: int) -> int:
    """How many are wrong with the best regions within a budget: the best of each number of them, coarse region by
    coarse region."""
    scales = sorted(errors)
    least = {(row, column): [float(each)] for (row, column), each in np.ndenumerate(errors[1])}
    for scale in scales[1:]:
        least = {
            (row, column): _best_of(
                int(each), [least[place] for place in _below(row, column) if place in least]
            )
            for (row, column), each in np.ndenumerate(errors[scale])
        }
    whole = [0.0]
    for ways in least.values():
        whole = _both(whole, _numbered(ways))[: budget + 1]
    return int(min(whole))


def _below(row: int, column: int) -> list[tuple[int, int]]:
    return [(2 * row + down, 2 * column + right) for down in (0, 1) for right in (0, 1)]


def _best_of(unopened: float, below: list[list[float]]) -> list[float]:
    """Wrong pixels with 1, 2, ... regions: it is one of them, or those below it are."""
    opened = [0.0]
    for ways in below:
        opened = _both(opened, _numbered(ways))
    return [min(unopened, opened[1]), *opened[2:]] if len(opened) > 1 else [unopened]


def _numbered(ways: list[float]) -> list[float]:
    """With 0 regions, which is no way, first."""
    return [np.inf, *ways]


def _both(one: list[float], other: list[float]) -> list[float]:
    """Least sums with so many regions together."""
    least = np.full(len(one) + len(other) - 1, np.inf)
    for number, each in enumerate(one):
        part = least[number : number + len(other)]
        np.minimum(part, each + np.asarray(other), out=part)
    return least.tolist()


def _in_regions(wrong: NDArray[np.bool_], side: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = in_blocks(wrong, side, False).sum(axis=(1, 3), dtype=np.int64)
    return counts
