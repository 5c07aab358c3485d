"""Boxes that were found twice, by several cells or on both sides of a border between regions, become one."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.labels.box_table import BoxTable
from xt.labels.merge_points import greedy

# So many pairs are looked at together.
_PAIRS = 200_000


def merge_boxes(table: BoxTable, iou_threshold: float = 0.6, limit: int | None = None) -> NDArray[np.int64]:
    """Of boxes of one class that overlap keep the one with the higher score: non-maximum suppression.

    The best box is kept and all of its class whose intersection over union with it is above the threshold are dropped;
    then the best of the rest, and so on. Equal scores are decided by place (the smaller y0, x0, y1, x1), so that the
    order in which the boxes come changes nothing. Boxes are compared only with those of a similar size and place:
    where objects do not pile up, time and memory grow with the number of boxes.

    Args:
        iou_threshold: between 0 and 1; at exactly this both stay.
        limit: the best are kept up to this number; None for all.

    Returns:
        Which are kept: numbers into the table, in the order given.

    Raises:
        ConfigError: the threshold or the limit is out of its range.
    """
    if not 0 < iou_threshold < 1:
        raise ConfigError(
            f"the overlap above which boxes are one must be between 0 and 1, got {iou_threshold}"
        )
    if limit is not None and limit < 0:
        raise ConfigError(f"a limit of boxes must be at least 0, got {limit}")
    best_first = np.lexsort((table.x1, table.y1, table.x0, table.y0, -table.scores))
    ranked = table.select(best_first)
    better, worse = _overlapping_pairs(ranked.edges, ranked.labels, iou_threshold)
    kept = best_first[greedy(len(ranked), better, worse)][:limit]
    return np.sort(kept)


def boxes_of_image(
    tables: Sequence[BoxTable],
    height: float,
    width: float,
    iou_threshold: float = 0.6,
    limit: int | None = None,
) -> BoxTable:
    """The boxes of an image from those of its regions: cut at the image's borders, merged, best first.

    Their areas are those of what is left of them, as in a file of results, of which COCO's numbers for small, medium
    and large objects are made.

    Args:
        tables: of the regions, as a detection head decodes them.
        height, width: of the image, in pixels.
        iou_threshold, limit: see `merge_boxes`.
    """
    found = BoxTable.concatenate(tables).clipped(height, width)
    found = BoxTable.of(found.edges, found.labels, scores=found.scores)
    found = found.select((found.heights > 0) & (found.widths > 0))
    found = found.select(merge_boxes(found, iou_threshold, limit))
    return found.select(np.argsort(-found.scores, kind="stable"))


def _overlapping_pairs(
    edges: NDArray[np.float64], labels: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a class whose IoU is above the threshold: the smaller numbers, and the larger ones.

    The IoU of two boxes is at most that of their shadows on either axis. Above t, their sides are within a factor of t,
    and with sides a and b the centres are closer than (a + b) / 2 * (1 - t) / (1 + t). So boxes are sorted by size, in
    powers of 2, and each is compared with those in the nine squares around it of a grid as fine as that size asks for.
    """
    sides = edges[:, 2:] - edges[:, :2]
    real = np.flatnonzero((sides > 0).all(axis=1))
    size = np.zeros(len(edges), dtype=np.int64)
    size[real] = np.floor(np.log2(sides[real].max(axis=1)))
    apart = math.ceil(-math.log2(threshold))
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for small in np.unique(size[real]):
        of_small = real[size[real] == small]
        for large in range(small, small + apart + 1):
            of_large = real[size[real] == large]
            cell = 2.0 ** (large + 1) * (1 - threshold) / (1 + threshold)
            for one, other in _neighbours(edges, labels, of_small, of_large, cell):
                # Within one size each pair is met from both sides.
                new = one < other if large == small else slice(None)
                one, other = one[new], other[new]
                close = _iou(edges[one], edges[other]) > threshold
                pairs.append(np.stack([one[close], other[close]]))
    found = np.concatenate(pairs, axis=1)
    return found.min(axis=0), found.max(axis=0)


def _neighbours(
    edges: NDArray[np.float64],
    labels: NDArray[np.int64],
    some: NDArray[np.int64],
    others: NDArray[np.int64],
    cell: float,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of a class, of `some` with `others`, in the same or a neighbouring square, a limited number at a time."""
    if not len(some) or not len(others):
        return
    centres = (edges[:, :2] + edges[:, 2:]) / 2
    both = np.concatenate([some, others])
    places = np.floor((centres[both] - centres[both].min(axis=0)) / cell).astype(np.int64)
    # A column more on either side, so that the neighbour of the last one is not the first of the next row.
    columns = int(places[:, 1].max()) + 3
    squares = (int(places[:, 0].max()) + 3) * columns
    classes = np.unique(labels[both], return_inverse=True)[1]
    keys = classes * squares + (places[:, 0] + 1) * columns + places[:, 1] + 1
    order = np.argsort(keys[len(some) :], kind="stable")
    ordered, others = keys[len(some) :][order], others[order]
    for step in (row * columns + column for row in (-1, 0, 1) for column in (-1, 0, 1)):
        first = np.searchsorted(ordered, keys[: len(some)] + step, side="left")
        counts = np.searchsorted(ordered, keys[: len(some)] + step, side="right") - first
        ends = counts.cumsum()
        for start, stop in _pieces(ends):
            part = counts[start:stop]
            # Runs of consecutive numbers, each from its own first one.
            runs = np.arange(part.sum()) - np.repeat(part.cumsum() - part, part)
            yield np.repeat(some[start:stop], part), others[runs + np.repeat(first[start:stop], part)]


def _pieces(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of at most `_PAIRS` pairs each, or of one row, given the running number of pairs."""
    start, done = 0, 0
    while start < len(ends) and ends[-1] > done:
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        yield start, stop
        start, done = stop, int(ends[stop - 1])


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) intersection over union of N pairs."""
    shared = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    intersection = np.maximum(shared, 0).prod(axis=1)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1)
    result: NDArray[np.float64] = intersection / (areas - intersection)
    return result
