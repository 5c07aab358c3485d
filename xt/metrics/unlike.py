"""How many objects only one of two answers about an image has: neither of them is the truth."""

import numpy as np

from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.metrics.matching import match_points

_SAME_BOX = 0.5


def unlike_points(one: PointTable, other: PointTable, reach: float) -> tuple[int, int]:
    """How many points only one of two tables has, and how many there are in either; those of one class that are at most
    so many pixels apart are one, each with one other at most."""
    pairs = 0
    for label in np.union1d(one.labels, other.labels):
        places = [np.stack([table.y, table.x], axis=1)[table.labels == label] for table in (one, other)]
        pairs += len(match_points(places[0], places[1], reach)[0])
    return _unlike(len(one), len(other), pairs)


def unlike_boxes(one: BoxTable, other: BoxTable) -> tuple[int, int]:
    """Likewise of boxes; those of one class of which half of the area of both together is in both are one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from shapely import STRtree, box

    # Boxes of a pair share some area: only those are looked at.
    near = STRtree(box(other.x0, other.y0, other.x1, other.y1)).query(box(one.x0, one.y0, one.x1, one.y1))
    a, b = one.edges[near[0]], other.edges[near[1]]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    either = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    same = (shared >= _SAME_BOX * either) & (one.labels[near[0]] == other.labels[near[1]])
    graph = csr_array((np.ones(int(same.sum())), near[:, same]), shape=(len(one), len(other)))
    pairs = (maximum_bipartite_matching(graph) >= 0).sum() if same.any() else 0
    return _unlike(len(one), len(other), int(pairs))


def _unlike(one: int, other: int, pairs: int) -> tuple[int, int]:
    return one + other - 2 * pairs, one + other - pairs
