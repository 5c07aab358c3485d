"""Outlines of the regions of one class in a mask of any size, as polygons, a band of rows at a time.

GDAL outlines each band; where polygons of one class touch on both sides of a border between bands, the shared part
of the border is taken out and what is left of their rings is linked anew. A polygon is handed on as soon as it can no
longer grow, so memory holds one band and the outlines that cross its border, however large the mask.

Pixels belong together that share a side (not only a corner). Corners of outlines are corners of pixels.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xt.images import LargeImage

# A ring's corners in order, (n, 2) as (y, x); the last is linked to the first.
Ring = NDArray[np.int64]
_BAND_PIXELS = 1 << 22
_LEAST_ROWS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """A connected part of one class.

    Attributes:
        label: the class number.
        rings: the outer one, then one a hole; corners in pixels of the image. As seen on a screen the outer one runs
            counter-clockwise and the holes clockwise, as RFC 7946 wants it on a map with north at the top.
        area: in pixels, holes not counted.
    """

    label: int
    rings: tuple[Ring, ...]
    area: int


@dataclass(kw_only=True, eq=False)
class _Part:
    """A polygon that may go on below. The rings that touch the border are kept apart."""

    label: int
    closed: list[Ring]
    touching: list[Ring]


def outlines(mask: "LargeImage", labels: Collection[int], least_area: int = 1) -> Iterator[Outline]:
    """The outlines of some classes, from the top down by where they end.

    Args:
        mask: one band of class numbers, 0 to 255.
        labels: which classes.
        least_area: smaller parts are left out, in pixels.
    """
    height, width = mask.shape
    rows = max(_LEAST_ROWS, _BAND_PIXELS // width)
    wanted = np.zeros(256, dtype=bool)
    wanted[list(labels)] = True
    above: list[_Part] = []
    for top in range(0, height, rows):
        band = mask.read(top, 0, min(rows, height - top), width)[..., 0]
        below = list(_band_parts(band, wanted, top))
        joined = _join(above, below, top, width)
        bottom = top + len(band)
        above = []
        for part in joined:
            _sort_rings(part, bottom)
            if part.touching and bottom < height:
                above.append(part)
                continue
            outline = _finished(part)
            if outline.area >= least_area:
                yield outline


def _band_parts(band: NDArray[np.uint8], wanted: NDArray[np.bool_], top: int) -> Iterator[_Part]:
    from rasterio.features import shapes

    inside = wanted[band]
    if not inside.any():
        return
    for polygon, label in shapes(np.ascontiguousarray(band), mask=inside, connectivity=4):
        rings = []
        for number, corners in enumerate(polygon["coordinates"]):
            # GDAL repeats the first corner at the end, and gives x first.
            ring = np.asarray(corners, dtype=np.float64)[:-1, ::-1].astype(np.int64)
            ring[:, 0] += top
            rings.append(_directed(ring, outer=number == 0))
        yield _Part(label=int(label), closed=[], touching=rings)


def _directed(ring: Ring, outer: bool) -> Ring:
    return ring if (signed_area(ring) > 0) == outer else ring[::-1]


def signed_area(ring: Ring) -> int:
    """In pixels; positive if the ring runs counter-clockwise as seen on a screen, where y points down."""
    y, x = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, 1) - np.roll(x, 1) * y).sum()) // 2


def _sort_rings(part: _Part, border: int) -> None:
    """Only rings that touch the border can change any more."""
    rings = part.touching
    part.touching = []
    for ring in rings:
        (part.touching if (ring[:, 0] == border).any() else part.closed).append(ring)


def _join(above: list[_Part], below: list[_Part], border: int, width: int) -> list[_Part]:
    """Parts of a band with those above it that they touch at the border."""
    if not above:
        return below
    parts = above + below
    # Which part lies above, and which below, each unit of the border; -1 where none of these classes does.
    upper, lower = np.full(width, -1), np.full(width, -1)
    for number, part in enumerate(parts):
        side = upper if number < len(above) else lower
        for ring in part.touching:
            for left, right in _on_border(ring, border):
                side[left:right] = number
    labels = np.array([part.label for part in parts])
    shared = (upper >= 0) & (lower >= 0)
    shared[shared] = labels[upper[shared]] == labels[lower[shared]]
    roots = _connected(len(parts), np.unique(np.stack([upper[shared], lower[shared]], axis=1), axis=0))
    groups: dict[int, list[_Part]] = defaultdict(list)
    for number, part in enumerate(parts):
        groups[roots[number]].append(part)
    return [group[0] if len(group) == 1 else _merged(group, border, shared) for group in groups.values()]


def _on_border(ring: Ring, border: int) -> Iterator[tuple[int, int]]:
    """From where to where a ring runs along the border."""
    on = ring[:, 0] == border
    for start in np.flatnonzero(on & np.roll(on, -1)):
        one, other = ring[start, 1], ring[(start + 1) % len(ring), 1]
        yield int(min(one, other)), int(max(one, other))


def _connected(count: int, pairs: NDArray[np.int64]) -> list[int]:
    """For each number the same root as for all that pairs connect it with."""
    parents = list(range(count))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in pairs.tolist():
        first, second = root(one), root(other)
        parents[max(first, second)] = min(first, second)
    return [root(number) for number in range(count)]


def _merged(group: list[_Part], border: int, shared: NDArray[np.bool_]) -> _Part:
    """One part of several: the shared border is taken out, the open ends are linked."""
    kept: list[Ring] = []
    paths: list[Ring] = []
    for part in group:
        for ring in part.touching:
            pieces = _cut(ring, border, shared)
            if pieces is None:
                kept.append(ring)
            else:
                paths += pieces
    closed = [ring for part in group for ring in part.closed]
    return _Part(label=group[0].label, closed=closed, touching=kept + _linked(paths))


def _cut(ring: Ring, border: int, shared: NDArray[np.bool_]) -> list[Ring] | None:
    """What is left of a ring without the shared border, as paths from corner to corner; None if it has none of it."""
    steps = _in_units(ring, border)
    following = np.roll(steps, -1, axis=0)
    along = (steps[:, 0] == border) & (following[:, 0] == border)
    gone = np.zeros(len(steps), dtype=bool)
    gone[along] = shared[np.minimum(steps[along, 1], following[along, 1])]
    if not gone.any():
        return None
    # Begin behind a gap, so that no path goes over the array's end.
    start = int(np.flatnonzero(gone)[0]) + 1
    steps, gone = np.roll(steps, -start, axis=0), np.roll(gone, -start)
    gaps = np.flatnonzero(gone)
    begins = np.concatenate([[0], gaps[:-1] + 1])
    return [steps[begin : gap + 1] for begin, gap in zip(begins, gaps, strict=True) if gap > begin]


def _in_units(ring: Ring, border: int) -> Ring:
    """The ring with a corner at each unit of its way along the border."""
    following = np.roll(ring, -1, axis=0)
    along = (ring[:, 0] == border) & (following[:, 0] == border)
    step = following[:, 1] - ring[:, 1]
    counts = np.where(along, np.abs(step), 1)
    which = np.repeat(np.arange(len(ring)), counts)
    nth = np.arange(len(which)) - np.repeat(counts.cumsum() - counts, counts)
    units = ring[which]
    units[:, 1] += nth * np.where(along, np.sign(step), 0)[which]
    return units


def _linked(paths: list[Ring]) -> list[Ring]:
    """Rings of paths, each of which begins where another ends."""
    beginning: dict[int, list[Ring]] = defaultdict(list)
    for path in paths:
        beginning[int(path[0, 1])].append(path)
    rings = []
    while beginning:
        first = end = next(iter(beginning))
        chain: list[Ring] = []
        while not chain or end != first:
            waiting = beginning[end]
            path = waiting.pop()
            if not waiting:
                del beginning[end]
            chain.append(path[:-1])
            end = int(path[-1, 1])
        rings.append(_corners_only(np.concatenate(chain)))
    return rings


def _corners_only(ring: Ring) -> Ring:
    """Without the points where it goes straight on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns]


def _finished(part: _Part) -> Outline:
    """The part's rings as one polygon, the outer ring first."""
    rings = [piece for ring in part.closed + part.touching for piece in _simple(_corners_only(ring))]
    areas = [signed_area(ring) for ring in rings]
    order = sorted(range(len(rings)), key=lambda number: -areas[number])
    return Outline(label=part.label, rings=tuple(rings[number] for number in order), area=sum(areas))


def _simple(ring: Ring) -> list[Ring]:
    """The ring cut where it comes back to a corner: there a hole touches the outer ring, or another hole."""
    corners = list(map(tuple, ring.tolist()))
    if len(set(corners)) == len(corners):
        return [ring]
    rings: list[Ring] = []
    way: list[tuple[int, ...]] = []
    places: dict[tuple[int, ...], int] = {}
    for corner in corners:
        if corner in places:
            start = places[corner]
            loop = way[start:]
            rings.append(np.array(loop))
            for passed in loop[1:]:
                del places[passed]
            del way[start + 1 :]
            continue
        places[corner] = len(way)
        way.append(corner)
    rings.append(np.array(way))
    return rings
