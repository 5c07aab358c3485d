"""Points that were found twice, on both sides of a border between regions, become one."""

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError


def merge_points(
    y: NDArray[np.floating], x: NDArray[np.floating], scores: NDArray[np.floating], radius: float
) -> NDArray[np.int64]:
    """Of points closer than a radius keep the one with the higher score.

    The best point is kept and all within the radius of it are dropped; then the best of the rest, and so on. A point
    is therefore dropped only for one that stays. Equal scores are decided by place (the smaller y, then the smaller
    x), so that the order in which the points come changes nothing. Points are compared only with those in the same or a
    neighbouring square of a grid: time and memory grow with the number of points.

    Args:
        y, x, scores: (N,) each; coordinates in any unit.
        radius: in the same unit, at least 0. At a distance of exactly the radius both stay.
    Returns:
        Which are kept: numbers into the arrays, in the order given.
    Raises:
        ConfigError: the radius is negative or no number.
    """
    if not radius >= 0:
        raise ConfigError(f"the radius within which points are one must be at least 0, got {radius}")
    y, x, scores = (np.asarray(values, dtype=np.float64) for values in (y, x, scores))
    if radius == 0 or len(y) < 2:
        return np.arange(len(y))
    best_first = np.lexsort((x, y, -scores))
    better, worse = _close_pairs(y[best_first], x[best_first], radius)
    return np.sort(best_first[greedy(len(y), better, worse)])


def greedy(count: int, better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the ranked points stay, given the close pairs.

    One point after the other, as the definition says, would be slow here. In each round all those stay that have no
    better undecided point close by, and drop what is close to them: the same points in a few rounds.
    """
    stays = np.zeros(count, dtype=bool)
    undecided = np.ones(count, dtype=bool)
    while undecided.any():
        blocked = np.zeros(count, dtype=bool)
        blocked[worse] = True
        chosen = undecided & ~blocked
        stays |= chosen
        undecided &= ~chosen
        undecided[worse[chosen[better]]] = False
        still = undecided[better] & undecided[worse]
        better, worse = better[still], worse[still]
    return stays


def _close_pairs(
    y: NDArray[np.float64], x: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs closer than the radius: the smaller numbers, and the larger ones."""
    row, column = (np.floor(values / radius).astype(np.int64) for values in (y - y.min(), x - x.min()))
    # A column more on the right, so that the neighbour of the last one is not the first of the next row.
    columns = int(column.max()) + 2
    square = row * columns + column
    order = np.argsort(square, kind="stable")
    ordered = square[order]
    pairs = []
    # Half of the neighbours, as the other half has these as its neighbours.
    for step in (0, 1, columns - 1, columns, columns + 1):
        first = np.searchsorted(ordered, ordered + step, side="left")
        stop = np.searchsorted(ordered, ordered + step, side="right")
        if step == 0:
            first = np.arange(len(ordered)) + 1
        counts = np.maximum(stop - first, 0)
        one = np.repeat(np.arange(len(ordered)), counts)
        # Runs of consecutive numbers, each from its own first one.
        other = (
            np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(first, counts)
        )
        one, other = order[one], order[other]
        close = (y[one] - y[other]) ** 2 + (x[one] - x[other]) ** 2 < radius**2
        pairs.append(np.stack([one[close], other[close]]))
    found = np.concatenate(pairs, axis=1)
    return found.min(axis=0), found.max(axis=0)
