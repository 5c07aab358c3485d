"""Targets of detection: which level, which cells, what they are to say; against a plain twin."""

import numpy as np
import pytest

from xt.heads.box_targets import BACKGROUND, IGNORED, Cells, box_targets, pyramid_levels
from xt.labels.box_table import BoxTable
from xt.regions.grid import Region

REGION = Region(128, 64, 64, 64)
CELLS = Cells(pyramid_levels((8, 16), 64, 2, coarsest=16))


def plain_targets(boxes: BoxTable, region: Region, cells: Cells, radius: float) -> np.ndarray:
    """The definition, cell by cell and box by box."""
    result = np.zeros((6, len(cells)))
    for number in range(len(cells)):
        y, x = region.y + cells.y[number], region.x + cells.x[number]
        level = cells.levels[cells.level[number]]
        result[0, number], smallest = BACKGROUND, np.inf
        for y0, x0, y1, x1 in boxes.edges[boxes.crowd]:
            if y0 <= y < y1 and x0 <= x < x1:
                result[0, number] = IGNORED
        for box, label, crowd in zip(boxes.edges, boxes.labels, boxes.crowd, strict=True):
            y0, x0, y1, x1 = box
            height, width = y1 - y0, x1 - x0
            if (
                crowd
                or not level.smallest < max(height, width) <= level.largest
                or height * width >= smallest
            ):
                continue
            dy, dx = y - (y0 + y1) / 2, x - (x0 + x1) / 2
            large_y, large_x = max(height, level.stride) / 2, max(width, level.stride) / 2
            if max(abs(dy), abs(dx)) > radius * level.stride or abs(dy) > large_y or abs(dx) > large_x:
                continue
            smallest = height * width
            distances = large_y - dy, large_y + dy, large_x - dx, large_x + dx
            ness = min(distances[:2]) / max(distances[:2]) * min(distances[2:]) / max(distances[2:])
            result[:, number] = label, y0 - y, x0 - x, y1 - y, x1 - x, ness**0.5
    return result


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.6, 1.5, 3.0])
def test_agrees_with_the_definition(seed, radius):
    rng = np.random.default_rng(seed)
    count = 60
    centres = rng.uniform((100, 30), (220, 160), (count, 2))
    sides = 2 ** rng.uniform(1, 8, (count, 2))
    boxes = BoxTable.of(
        np.concatenate([centres - sides / 2, centres + sides / 2], axis=1),
        rng.integers(0, 4, count),
        crowd=rng.random(count) < 0.05,
    )
    found = box_targets(boxes, REGION, CELLS, radius)
    np.testing.assert_allclose(found, plain_targets(boxes, REGION, CELLS, radius), rtol=1e-6, atol=1e-5)
    assert len(np.unique(CELLS.level[found[0] >= 0])) == 2
    assert (found[0] < 0).any()


def test_levels_double_until_the_cells_are_a_region_s_eighth():
    levels = pyramid_levels((8, 16, 32), 1024, 32)
    assert [level.stride for level in levels] == [8, 16, 32, 64, 128, 32]
    assert [level.cells for level in levels] == [128, 64, 32, 16, 8, 32]
    assert [level.largest for level in levels] == [64, 128, 256, 512, 1024, np.inf]
    assert [level.smallest for level in levels] == [0, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize(
    ("strides", "size", "tokens", "expected"),
    [
        ((8, 16, 32), 256, 2, [(8, 64), (16, 128), (32, 256), (128, np.inf)]),
        ((4, 8, 16, 32), 256, 8, [(4, 32), (8, 64), (16, 128), (32, 256), (32, np.inf)]),
        # 64 pixels a cell would not fill the region.
        ((8, 16, 32), 544, 1, [(8, 64), (16, 128), (32, 544), (544, np.inf)]),
        ((8, 16, 32), 64, 2, [(8, 64), (32, np.inf)]),
        ((8, 16, 32), 32, 1, [(8, 32), (32, np.inf)]),
    ],
)
def test_only_levels_that_fit_a_region(strides, size, tokens, expected):
    found = [(level.stride, level.largest) for level in pyramid_levels(strides, size, tokens)]
    assert found == expected


def test_an_object_smaller_than_a_cell_is_found_by_the_cell_around_its_centre():
    boxes = BoxTable.of([[130, 70, 133, 72]], [1])
    labels = box_targets(boxes, REGION, CELLS, 1.5)[0]
    assert np.flatnonzero(labels == 1).tolist() == [0]


def test_an_object_on_a_border_is_found_on_both_sides():
    boxes = BoxTable.of([[140, 44, 160, 84]])  # centre at x = 64
    right = box_targets(boxes, REGION, CELLS)
    left = box_targets(boxes, Region(128, 0, 64, 64), CELLS)
    assert (right[0] >= 0).sum() == (left[0] >= 0).sum() > 0
    # Of the right region's cells the first two columns, of the left one's the last two.
    assert set(CELLS.x[right[0] >= 0]) == {4.0, 12.0}
    assert set(CELLS.x[left[0] >= 0]) == {52.0, 60.0}


def test_no_box_and_a_box_without_area():
    for boxes in (BoxTable.empty(), BoxTable.of([[140, 70, 140, 90]])):
        found = box_targets(boxes, REGION, CELLS)
        assert (found[0] == BACKGROUND).all()
        assert found.dtype == np.float32
        assert not found[1:].any()
