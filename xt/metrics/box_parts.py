"""Images of very many boxes, divided so that each box is compared with those near it only, to the same result."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# Of found and true boxes of one image and class: fewer pairs are compared in the time that dividing would take.
_FEW_PAIRS = 250_000
_PART = 64
_IMAGE, _LABEL, _EDGES, _CROWD = 0, 1, slice(3, 7), 7
# Below the least IoU that is asked for, 0.5, by more than rounding.
_LEAST = 0.499

Rows = NDArray[np.float64]


def divided(found: Rows, true: Rows) -> tuple[Rows, Rows] | None:
    """The same boxes with the numbers of smaller images; None where no image is large.

    A found and a true box that do not reach an IoU of 0.5 have nothing to do with each other. Those that do make, with
    others that do so with one of them, a cluster; a part is some whole clusters. What pairs up is the same as before.
    Average precision goes through all boxes by falling score; among equal scores it now takes another order.

    Args:
        found, true: (N, 9) image, label, score, y0, x0, y1, x1, crowd, area each.
    """
    if not _has_large(found, true):
        return None
    together = np.concatenate([found, true])
    is_true = np.arange(len(together)) >= len(found)
    keys, group = np.unique(together[:, [_IMAGE, _LABEL]], axis=0, return_inverse=True)
    group = group.reshape(-1)
    numbers = np.empty(len(together))
    # Boxes of different classes never meet, so parts of different classes may have one number.
    used: dict[float, int] = {}
    for key, (_, label) in enumerate(keys):
        rows = np.flatnonzero(group == key)
        parts = _parts(together[rows], is_true[rows])
        numbers[rows] = used.get(label, 0) + parts
        used[label] = used.get(label, 0) + int(parts.max()) + 1
    together[:, _IMAGE] = numbers
    return together[: len(found)], together[len(found) :]


def _has_large(found: Rows, true: Rows) -> bool:
    counts: dict[tuple[float, ...], list[int]] = {}
    for place, rows in enumerate((found, true)):
        keys, number = np.unique(rows[:, [_IMAGE, _LABEL]], axis=0, return_counts=True)
        for key, count in zip(map(tuple, keys), number, strict=True):
            counts.setdefault(key, [0, 0])[place] = int(count)
    return any(one * other > _FEW_PAIRS for one, other in counts.values())


def _parts(rows: Rows, is_true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each box of an image and class, from 0 on."""
    one, other = _partners(rows, is_true)
    graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(rows), len(rows)))
    count, cluster = connected_components(graph, directed=False)
    # Clusters one after the other, each part begun when the one before is full.
    before = np.concatenate([[0], np.bincount(cluster, minlength=count).cumsum()[:-1]])
    _, part_of_cluster = np.unique(before // _PART, return_inverse=True)
    parts: NDArray[np.int64] = part_of_cluster.reshape(-1)[cluster]
    return parts


def _partners(rows: Rows, is_true: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a found and a true box that may be one.

    A sweep downwards: each box is compared with those that begin before it ends. Time grows with the number of boxes
    times how many lie in a band of their height.
    """
    order = np.argsort(rows[:, 3], kind="stable")
    rows, is_true = rows[order], is_true[order]
    y0, x0, y1, x1 = rows[:, _EDGES].T
    area = (y1 - y0) * (x1 - x0)
    crowd = rows[:, _CROWD] > 0
    until = np.searchsorted(y0, y1, side="left")
    ones, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in range(len(order)):
        near = np.arange(number + 1, until[number])
        near = near[(is_true[near] != is_true[number]) & (x0[near] < x1[number]) & (x1[near] > x0[number])]
        height = np.minimum(y1[near], y1[number]) - y0[near]
        both = height * (np.minimum(x1[near], x1[number]) - np.maximum(x0[near], x0[number]))
        # Of a crowd only how much of the found box lies in it counts.
        of_found = area[near] if is_true[number] else area[number]
        in_crowd = crowd[near] | crowd[number]
        compared = np.where(in_crowd, of_found, area[near] + area[number] - both)
        near = near[both >= _LEAST * compared]
        ones.append(np.full(len(near), order[number]))
        others.append(order[near])
    return np.concatenate(ones), np.concatenate(others)
