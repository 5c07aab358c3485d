"""Which cells of a region are to find which boxes: the arithmetic of detection targets, in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xt.labels.box_table import BoxTable
from xt.regions.grid import Region

BACKGROUND = -1
IGNORED = -2
# Rows of the targets: class number, four edges, centre-ness.
TARGET_ROWS = 6


@dataclass(frozen=True, kw_only=True)
class Level:
    """The cells of a region that objects of some sizes are found at.

    Attributes:
        stride: side of a cell, in pixels.
        cells: along one side of a region.
        smallest: side of the objects, more than this, in pixels; an object's side is the longer one.
        largest: likewise, at most this.
    """

    stride: float
    cells: int
    smallest: float
    largest: float

    @property
    def unit(self) -> float:
        """About the sides of its objects, in pixels."""
        return 0.7 * self.largest if np.isfinite(self.largest) else 1.4 * self.smallest


def pyramid_levels(
    strides: Sequence[int], region_size: int, tokens_per_side: int, coarsest: int = 128
) -> list[Level]:
    """The levels of a region, finest first: cells of feature maps, then tokens.

    Objects are at most 8 cells long, those of the last feature map as long as a region; whatever is longer is found
    among the tokens. A level whose objects would be longer than a region, or whose cells do not fill one, is left out.

    Args:
        strides: of the region encoder's maps that are looked at, finest first.
        coarsest: where the encoder's last stride is finer, it is doubled up to this one, in pixels.
    """
    strides = [int(stride) for stride in strides]
    while strides[-1] * 2 <= coarsest:
        strides.append(strides[-1] * 2)
    fitting = [stride for stride in strides if 8 * stride <= region_size and region_size % stride == 0]
    fitting = fitting or strides[:1]
    limits = [0.0, *(8.0 * stride for stride in fitting[:-1]), float(region_size), np.inf]
    strides_and_token = [*map(float, fitting), region_size / tokens_per_side]
    return [
        Level(stride=stride, cells=round(region_size / stride), smallest=smallest, largest=largest)
        for stride, smallest, largest in zip(strides_and_token, limits, limits[1:], strict=False)
    ]


class Cells:
    """All cells of a region, level after level, row by row.

    Args:
        levels: finest first.

    Attributes:
        y: (cells,) of their centres, in pixels from the region's upper left corner.
        x: likewise.
        level: (cells,) number of its level.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = list(levels)
        axes = [(np.arange(level.cells) + 0.5) * level.stride for level in levels]
        self.y = np.concatenate([np.repeat(axis, len(axis)) for axis in axes])
        self.x = np.concatenate([np.tile(axis, len(axis)) for axis in axes])
        self.level = np.repeat(np.arange(len(axes)), [len(axis) ** 2 for axis in axes])
        self.starts = np.concatenate([[0], np.cumsum([len(axis) ** 2 for axis in axes])])
        self.largest = np.array([level.largest for level in levels])
        self.strides = np.array([level.stride for level in levels])

    def __len__(self) -> int:
        return len(self.y)

    def level_of(self, boxes: BoxTable) -> NDArray[np.int64]:
        """(N,) number of the level that finds each box."""
        return np.searchsorted(self.largest, np.maximum(boxes.heights, boxes.widths), side="left")


def box_targets(boxes: BoxTable, region: Region, cells: Cells, radius: float = 1.5) -> NDArray[np.float32]:
    """What each cell of a region is to say.

    An object is found at the cells of its level whose centres lie in it and within `radius` cells of its centre, along
    both axes; one that is smaller than a cell along an axis counts as large as a cell. A cell that could find several
    finds the smallest. Where the centre lies beyond the region's border, the neighbour's cells find it as well.

    Args:
        boxes: of the whole image.
        radius: of centre sampling, in cells.

    Returns:
        (6, cells): class number, `BACKGROUND`, or `IGNORED` inside crowd boxes; y0, x0, y1, x1 of the box, from the
        cell's centre, in pixels; centre-ness in [0, 1]. All but the first are 0 where there is no object.

    Source: FCOS, Tian et al. 2019 (arXiv:1904.01355), section 3 and equation 3, with centre sampling as in the
    authors' later version (arXiv:2006.09214, section 3.1). Sizes, not distances, choose the level.
    """
    result = np.zeros((TARGET_ROWS, len(cells)), dtype=np.float32)
    result[0] = BACKGROUND
    edges = boxes.edges - np.array([region.y, region.x] * 2)
    for y0, x0, y1, x1 in edges[boxes.crowd & _reaches(edges, region)]:
        covered = (cells.y >= y0) & (cells.y < y1) & (cells.x >= x0) & (cells.x < x1)
        result[0, covered] = IGNORED
    level = cells.level_of(boxes)
    centres = (edges[:, :2] + edges[:, 2:]) / 2
    margin = (radius * cells.strides[level])[:, None]
    near = ((centres >= -margin) & (centres <= region.height + margin)).all(axis=1)
    near &= ~boxes.crowd & (boxes.heights > 0) & (boxes.widths > 0)
    for number in np.unique(level[near]):
        some = np.flatnonzero(near & (level == number))
        part = slice(cells.starts[number], cells.starts[number + 1])
        _assign(result[:, part], edges[some], boxes.labels[some], (cells.y[part], cells.x[part]),
                float(cells.strides[number]), radius)  # fmt: skip
    return result


def _reaches(edges: NDArray[np.float64], region: Region) -> NDArray[np.bool_]:
    size = np.array([region.height, region.width])
    reaches: NDArray[np.bool_] = np.all((edges[:, 2:] > 0) & (edges[:, :2] < size), axis=1)
    return reaches


def _assign(
    result: NDArray[np.float32],
    edges: NDArray[np.float64],
    labels: NDArray[np.int64],
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    stride: float,
    radius: float,
) -> None:
    """Write the targets of one level's cells, given its boxes."""
    y, x = places
    centres, sides = (edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]
    half = np.maximum(sides, stride) / 2
    offset_y, offset_x = y - centres[:, :1], x - centres[:, 1:]  # (boxes, cells)
    reach = np.minimum(half, radius * stride)
    inside = (np.abs(offset_y) <= reach[:, :1]) & (np.abs(offset_x) <= reach[:, 1:])
    areas = np.where(inside, sides.prod(axis=1)[:, None], np.inf)
    owner = areas.argmin(axis=0)
    found = np.flatnonzero(inside.any(axis=0))
    owner = owner[found]
    result[0, found] = labels[owner]
    y0, x0, y1, x1 = edges[owner].T
    result[1:5, found] = y0 - y[found], x0 - x[found], y1 - y[found], x1 - x[found]
    result[5, found] = np.sqrt(
        _evenness(offset_y[owner, found], half[owner, 0]) * _evenness(offset_x[owner, found], half[owner, 1])
    )


def _evenness(offset: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shorter distance to an edge by the longer one, along one axis."""
    return (half - np.abs(offset)) / (half + np.abs(offset))
