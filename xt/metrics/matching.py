"""Which found point is which true point: the best one-to-one assignment within a distance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xt.errors import ConfigError, ShapeError


def match_points(
    found: ArrayLike, true: ArrayLike, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Assign found points to true ones, each to at most one: as many pairs as possible, then the least distance.

    A pair may be at most `reach` apart (Euclidean). This is the Hungarian assignment in which every pair that is
    farther apart costs more than any number of near ones, but only the near pairs are ever written down: a point more
    is a "nobody" at that price, and scipy's assignment of sparse graphs does the rest. Its memory grows with the
    number of near pairs instead of found times true points.

    Args:
        found: (N, 2) finite coordinates.
        true: (M, 2) in the same unit.
        reach: in that unit, > 0.
    Returns:
        for the pairs, in the order of the found points: places in `found`, places in `true`, distances.
    Raises:
        ShapeError: the points are not of shape (N, 2), or not finite.
        ConfigError: `reach` is not above 0.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    found, true = _points(found, "found"), _points(true, "true")
    if not reach > 0:
        raise ConfigError(f"points are matched within a distance above 0, got {reach}")
    row, column, distance = _near_pairs(found, true, reach)
    if not len(row):
        return row, column, distance
    # Found points that are near nothing would only make the graph larger.
    used, row_of = np.unique(row, return_inverse=True)
    rows, columns = len(used), len(true)
    nobody = reach * (min(rows, columns) + 1.0)
    # Every row takes one edge, so that adding 1 to all costs changes nothing; a cost of 0 would count as no edge.
    cost = np.concatenate([distance, np.full(rows, nobody)]) + 1.0
    ends = np.concatenate([column, columns + np.arange(rows)])
    graph = csr_array((cost, (np.concatenate([row_of, np.arange(rows)]), ends)), shape=(rows, columns + rows))
    matched_row, matched_column = min_weight_full_bipartite_matching(graph)
    real = matched_column < columns
    of_found, of_true = used[matched_row[real]].astype(np.int64), matched_column[real].astype(np.int64)
    return of_found, of_true, _distance(found[of_found], true[of_true])


def _near_pairs(
    found: NDArray[np.float64], true: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    from scipy.spatial import KDTree

    if not len(found) or not len(true):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # A little wider, then exactly: the tree may round at the border otherwise than the distance does.
    near = KDTree(found).sparse_distance_matrix(KDTree(true), reach * (1 + 1e-9), output_type="ndarray")
    row, column = near["i"].astype(np.int64), near["j"].astype(np.int64)
    distance = _distance(found[row], true[column])
    inside = distance <= reach
    return row[inside], column[inside], distance[inside]


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    difference = first - second
    result: NDArray[np.float64] = np.sqrt((difference * difference).sum(axis=1))
    return result


def _points(values: ArrayLike, name: str) -> NDArray[np.float64]:
    points = np.asarray(values, np.float64)
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"the {name} points must be of shape (N, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ShapeError(f"the {name} points must be finite numbers, and row {_first_bad(points)} is not")
    return points


def _first_bad(points: NDArray[np.float64]) -> int:
    return int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
