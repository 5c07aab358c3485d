from collections import Counter

import numpy as np
import pytest
from rasterio.features import rasterize

import xt
from xt.results import outlines as module
from xt.results.outlines import Outline, outlines, signed_area


def trace(mask: np.ndarray, labels, rows: int | None, monkeypatch, **options) -> list[Outline]:
    if rows is not None:
        monkeypatch.setattr(module, "_BAND_PIXELS", rows * mask.shape[1])
        monkeypatch.setattr(module, "_LEAST_ROWS", 1)
    return list(outlines(xt.open_image(mask), labels, **options))


def canonical(found: list[Outline]) -> Counter:
    """The same for outlines of the same shape, wherever their rings begin and in whatever order they come."""

    def turned(ring: np.ndarray) -> tuple:
        corners = [tuple(corner) for corner in ring.tolist()]
        start = corners.index(min(corners))
        return tuple(corners[start:] + corners[:start])

    return Counter((o.label, o.area, turned(o.rings[0]), frozenset(map(turned, o.rings[1:]))) for o in found)


def components(mask: np.ndarray, labels) -> list[tuple[int, int]]:
    """Class and area of each connected part, by flooding it pixel by pixel."""
    left = {tuple(place) for place in np.argwhere(np.isin(mask, list(labels))).tolist()}
    found = []
    while left:
        reached = [left.pop()]
        label, area = int(mask[reached[0]]), 0
        while reached:
            y, x = reached.pop()
            area += 1
            for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if place in left and mask[place] == label:
                    left.remove(place)
                    reached.append(place)
        found.append((label, area))
    return sorted(found)


def burnt(found: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """The mask that these outlines are of."""
    shapes = []
    for outline in found:
        rings = [[(x, y) for y, x in [*ring.tolist(), ring[0].tolist()]] for ring in outline.rings]
        shapes.append(({"type": "Polygon", "coordinates": rings}, outline.label))
    return rasterize(shapes, shape, dtype="uint8") if shapes else np.zeros(shape, np.uint8)


def random_mask(seed: int) -> np.ndarray:
    """Blobs, noise, stripes: whatever has many corners that touch."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 40, 2)
    noise = rng.random((height, width))
    if seed % 3 == 0:
        smooth = sum(np.roll(noise, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3))
        return (np.argsort(np.argsort(smooth, axis=None)).reshape(smooth.shape) * 4 // smooth.size).astype(
            np.uint8
        )
    return (noise * rng.integers(2, 5)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(40))
def test_bands_of_any_height_give_the_outlines_of_the_whole(seed, monkeypatch):
    mask = random_mask(seed)
    labels = range(1, 4)
    rows = int(np.random.default_rng(seed).integers(1, 8))
    found = trace(mask, labels, rows, monkeypatch)
    assert sorted((o.label, o.area) for o in found) == components(mask, labels)
    np.testing.assert_array_equal(burnt(found, mask.shape), mask)
    assert canonical(found) == canonical(trace(mask, labels, len(mask), monkeypatch))
    for outline in found:
        assert [signed_area(ring) > 0 for ring in outline.rings] == [True] + [False] * (
            len(outline.rings) - 1
        )
        assert sum(map(signed_area, outline.rings)) == outline.area
        for ring in outline.rings:
            assert len(np.unique(ring, axis=0)) == len(ring), "a ring touches itself nowhere"
            steps = np.roll(ring, -1, axis=0) - ring
            across = steps[:, 0] == 0
            assert (across != np.roll(across, -1)).all(), "every corner is one"


def test_a_spiral_across_many_bands_is_one_polygon(monkeypatch):
    mask = np.zeros((21, 21), np.uint8)
    for start in range(0, 10, 2):
        mask[start, start : 21 - start] = 1
        mask[start : 21 - start, 20 - start] = 1
        mask[20 - start, start : 21 - start] = 1
        mask[start + 2 : 21 - start, start] = 1
        mask[start + 2, start : start + 2] = 1
    found = trace(mask, [1], 2, monkeypatch)
    assert [(o.label, o.area) for o in found] == components(mask, [1]) == [(1, int(mask.sum()))]
    assert canonical(found) == canonical(trace(mask, [1], 21, monkeypatch))


def test_a_hole_that_a_border_cuts_and_an_island_in_it(monkeypatch):
    mask = np.full((9, 9), 2, np.uint8)
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1
    found = trace(mask, [1, 2], 3, monkeypatch)
    assert [(o.label, o.area, len(o.rings)) for o in found] == [(1, 1, 1), (2, 56, 2)]
    assert found[0].rings[0].tolist() == [[4, 4], [5, 4], [5, 5], [4, 5]]


def test_small_parts_and_other_classes_are_left_out(monkeypatch):
    mask = np.zeros((40, 40), np.uint8)
    mask[3, 3], mask[10:15, 10:15], mask[20:30, 20:30] = 1, 1, 7
    assert [o.area for o in trace(mask, [1], 8, monkeypatch)] == [1, 25]
    assert [o.area for o in trace(mask, [1, 7], 8, monkeypatch, least_area=25)] == [25, 100]
    assert trace(mask, [5], 8, monkeypatch) == []


def test_what_is_finished_is_handed_on_before_the_rest_is_read():
    class Counting(xt.LargeImage):
        rows_read = 0

        def _read(self, y, x, height, width, level):
            self.rows_read = y + height
            rows, columns = np.arange(y, y + height) % 64 == 0, np.arange(x, x + width) % 512 == 0
            return (rows[:, None, None] & columns[:, None]).astype(np.uint8)

    image = Counting("dots", [(100_000, 4096)], 1, np.dtype(np.uint8))
    first = next(iter(outlines(image, [1])))
    assert first.area == 1
    assert image.rows_read <= 1024
