"""Boxes found twice become one: against the definition, against torchvision, and few comparisons."""

import numpy as np
import pytest
import torch
import torchvision

from xt.errors import ConfigError
from xt.labels import merge_boxes as module
from xt.labels.box_table import BoxTable
from xt.labels.merge_boxes import boxes_of_image, merge_boxes


def iou(a, b) -> float:
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total else 0.0


def naive(table: BoxTable, threshold: float) -> list[int]:
    """The definition, one box after the other."""
    kept: list[int] = []
    edges = table.edges.tolist()
    for number in sorted(range(len(table)), key=lambda i: (-table.scores[i], *edges[i])):
        same = [other for other in kept if table.labels[other] == table.labels[number]]
        if all(iou(edges[number], edges[other]) <= threshold for other in same):
            kept.append(number)
    return sorted(kept)


def scattered(rng: np.random.Generator, count: int, extent: float, whole_numbers: bool = False) -> BoxTable:
    """Boxes of all sizes, in heaps."""
    heaps = rng.uniform(0, extent, (max(1, count // 8), 2))
    sides = 2 ** rng.uniform(1, 9, (len(heaps), 2))
    which = rng.integers(0, len(heaps), count)
    side = sides[which] * rng.uniform(0.7, 1.3, (count, 2))
    centre = heaps[which] + rng.normal(0, 0.15, (count, 2)) * side
    edges = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    scores = rng.permutation(count) / count
    if whole_numbers:
        edges, scores = np.round(edges / 8), np.round(scores * 4) / 4
    return BoxTable.of(edges, rng.integers(0, 3, count), scores=scores)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.6, 0.9])
def test_agrees_with_the_definition(seed, threshold):
    rng = np.random.default_rng(seed)
    # Of whole numbers many are equal and some are of no area.
    table = scattered(rng, int(rng.integers(2, 200)), 1000, whole_numbers=seed % 2 == 1)
    expected = naive(table, threshold)
    assert merge_boxes(table, threshold).tolist() == expected
    assert len(expected) < len(table) or len(table) < 20 or threshold == 0.9


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_agrees_with_torchvision(threshold):
    table = scattered(np.random.default_rng(3), 4000, 4000)
    edges = torch.from_numpy(table.edges[:, [1, 0, 3, 2]])
    kept = torchvision.ops.batched_nms(
        edges, torch.from_numpy(table.scores), torch.from_numpy(table.labels), threshold
    )
    assert merge_boxes(table, threshold).tolist() == sorted(kept.tolist())
    assert len(kept) < 0.8 * len(table)


def test_looking_at_few_pairs_at_a_time_changes_nothing(monkeypatch):
    table = scattered(np.random.default_rng(5), 400, 300)
    expected = merge_boxes(table).tolist()
    monkeypatch.setattr(module, "_PAIRS", 7)
    assert merge_boxes(table).tolist() == expected


def test_the_order_of_the_boxes_changes_nothing():
    rng = np.random.default_rng(1)
    table = scattered(rng, 300, 200, whole_numbers=True)

    def kept(order) -> set[tuple]:
        some = table.select(order)
        some = some.select(merge_boxes(some))
        return set(map(tuple, np.column_stack([some.edges, some.labels, some.scores]).tolist()))

    first = kept(np.arange(300))
    assert all(kept(rng.permutation(300)) == first for _ in range(5))
    assert len(first) < 250


def test_two_finds_of_one_object_at_a_border_and_one_of_another_class():
    table = BoxTable.of(
        [[240, 10, 270, 40], [241, 11, 270.5, 40], [240, 10, 270, 40]], [0, 0, 1], scores=[0.7, 0.9, 0.2]
    )
    assert merge_boxes(table).tolist() == [1, 2]


def test_only_what_stays_drops_others():
    # The middle one drops for the left one, so the right one, close to the middle one only, stays.
    table = BoxTable.of([[0, 0, 10, 10], [0, 2, 10, 12], [0, 4, 10, 14]], scores=[0.9, 0.8, 0.7])
    assert merge_boxes(table, 0.6).tolist() == [0, 2]


def test_at_the_threshold_both_stay_and_a_limit_keeps_the_best():
    table = BoxTable.of([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 12, 12]], scores=[0.2, 0.4, 0.3])
    assert merge_boxes(table, 0.5).tolist() == [0, 1, 2]
    assert merge_boxes(table, 0.49).tolist() == [1, 2]
    assert merge_boxes(table, 0.5, limit=2).tolist() == [1, 2]
    assert merge_boxes(table, 0.5, limit=0).tolist() == []
    assert merge_boxes(BoxTable.empty()).tolist() == []


def test_the_boxes_of_an_image_end_at_its_borders():
    left = BoxTable.of([[-5, -5, 20, 20], [90, 90, 130, 130]], scores=[0.3, 0.8])
    right = BoxTable.of([[0, 0, 20, 20.5], [100, 3, 120, 9]], scores=[0.5, 0.9])
    found = boxes_of_image([left, right], 100, 100)
    np.testing.assert_array_equal(found.edges, [[90, 90, 100, 100], [0, 0, 20, 20.5]])
    np.testing.assert_array_equal(found.scores, [0.8, 0.5])
    # COCO's small and large are of what is left, as in a file of results.
    np.testing.assert_array_equal(found.areas, [100, 410])


@pytest.mark.parametrize("threshold", [0, 1, -0.1, float("nan")])
def test_refusals(threshold):
    with pytest.raises(ConfigError, match="the overlap above which boxes are one must be between 0 and 1"):
        merge_boxes(BoxTable.empty(), threshold)
    with pytest.raises(ConfigError, match="a limit of boxes must be at least 0, got -1"):
        merge_boxes(BoxTable.empty(), limit=-1)


def test_work_grows_with_the_boxes(monkeypatch):
    compared, overlap = [], module._iou
    monkeypatch.setattr(module, "_iou", lambda one, other: compared.append(len(one)) or overlap(one, other))

    def pairs(count: int) -> int:
        compared.clear()
        merge_boxes(scattered(np.random.default_rng(0), count, 500 * count**0.5))
        return sum(compared)

    few, many = pairs(5_000), pairs(80_000)
    assert 0 < many < 16 * 1.5 * few, "pairs of all boxes would be 256 times as many"
