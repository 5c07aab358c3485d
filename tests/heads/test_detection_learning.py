"""Boxes learned in seconds: an object on a border between regions is found once, and so is one larger than a region."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import xt
from xt.heads import BoxTable
from xt.labels.merge_boxes import boxes_of_image

REGION = 64
SIDE = 2 * REGION
Box = tuple[int, int, int, int]


def scene(rng: np.random.Generator, boxes: list[Box], side: int, discs: bool = False) -> xt.LargeImage:
    """Bright shapes on noise."""
    pixels = rng.normal(0.3, 0.08, (side, side, 3))
    y, x = np.mgrid[:side, :side] + 0.5
    for y0, x0, y1, x1 in boxes:
        inside = (y > y0) & (y < y1) & (x > x0) & (x < x1)
        if discs:
            inside &= ((2 * y - y0 - y1) / (y1 - y0)) ** 2 + ((2 * x - x0 - x1) / (x1 - x0)) ** 2 < 1
        pixels[inside] += 0.5
    return xt.open_image((pixels.clip(0, 1) * 255).astype(np.uint8))


def small_objects(rng: np.random.Generator) -> list[Box]:
    """Four that do not touch."""
    boxes: list[Box] = []
    while len(boxes) < 4:
        height, width = (int(side) for side in rng.integers(14, 41, 2))
        y, x = int(rng.integers(0, SIDE - height + 1)), int(rng.integers(0, SIDE - width + 1))
        apart = [y > b[2] + 4 or b[0] > y + height + 4 or x > b[3] + 4 or b[1] > x + width + 4 for b in boxes]
        if all(apart):
            boxes.append((y, x, y + height, x + width))
    return boxes


def make_model(width: tuple[int, ...], head_width: int, **settings) -> xt.XT:
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "dims": width}
    defaults = {"region_size": REGION, "tokens_per_region": 4, "head_options": {"width": head_width}}
    scaling = {"pixel_mean": [0.35] * 3, "pixel_std": [0.2] * 3}
    model = xt.create_model(
        "convnext_atto",
        head="detection",
        num_classes=1,
        encoder_options=options,
        **(defaults | scaling | settings),
    )
    model.streaming = xt.Streaming(region_batch=32, keep="all")
    return model


def train(model: xt.XT, steps: int, examples: Callable[[], tuple[list, list]], rate: float = 4e-3) -> xt.XT:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        loss = model.loss(*examples())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def found_in(model: xt.XT, image: xt.LargeImage) -> tuple[BoxTable, BoxTable]:
    """Boxes that are likely objects, and all candidates of all regions that are."""
    tables = [table for part in model.decode(image) for table in part.predictions]
    candidates = BoxTable.concatenate(tables)
    merged = boxes_of_image(tables, *image.shape, iou_threshold=model.head.iou_threshold)
    return merged.select(merged.scores > 0.3), candidates.select(candidates.scores > 0.3)


def iou(box: np.ndarray, true: Box) -> float:
    shared = np.minimum(box[2:], true[2:]) - np.maximum(box[:2], true[:2])
    intersection = np.maximum(shared, 0).prod()
    areas = (box[2:] - box[:2]).prod() + (true[2] - true[0]) * (true[3] - true[1])
    return float(intersection / (areas - intersection))


def positions(height: int, width: int, directions: list[tuple[int, int]]) -> Iterator[Box]:
    """A box moved in single pixels, its centre across the corner of four regions and half a region further."""
    for down, right in directions:
        for step in range(-REGION // 2, REGION // 2 + 1):
            y, x = REGION + down * step - height // 2, REGION + right * step - width // 2
            yield y, x, y + height, x + width


def assert_found_once(model: xt.XT, boxes: Iterator[Box], discs: bool = False) -> None:
    rng = np.random.default_rng(5)
    found_by_several = 0
    for box in boxes:
        merged, candidates = found_in(model, scene(rng, [box], SIDE, discs))
        assert len(merged) == 1, f"{box} was found as {merged.edges.round(1).tolist()}"
        assert iou(merged.edges[0], box) > 0.8, f"{box} was found as {merged.edges.round(1).tolist()}"
        found_by_several += len(candidates) > 1
    # Else nothing had to be merged.
    assert found_by_several > 50


def test_an_object_moved_across_borders_and_corners_is_always_found_once():
    rng = np.random.default_rng(0)
    model = make_model((16, 24, 32, 48), 32, halo=32, context="none")

    def examples() -> tuple[list, list]:
        boxes = small_objects(rng)
        return [scene(rng, boxes, SIDE)], [BoxTable.of(boxes)]

    train(model, 150, examples)
    assert_found_once(model, positions(22, 30, [(1, 0), (1, 1)]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("discs", [False, True])
def test_objects_of_many_sizes_moved_in_all_directions_are_always_found_once(discs):
    rng = np.random.default_rng(0)
    model = make_model(
        (16, 24, 32, 48), 32, halo=32, dim=32, context="transformer_xl", context_options={"depth": 1}
    )

    def examples() -> tuple[list, list]:
        boxes = small_objects(rng)
        return [scene(rng, boxes, SIDE, discs)], [BoxTable.of(boxes)]

    train(model, 400, examples)
    for height, width in ((16, 16), (20, 34), (38, 26), (40, 40)):
        assert_found_once(model, positions(height, width, [(1, 0), (0, 1), (1, 1), (1, -1)]), discs)


@pytest.mark.slow
def test_an_object_larger_than_a_region_is_found_among_the_tokens():
    rng = np.random.default_rng(0)
    side = 3 * REGION + 10

    def large_object() -> Box:
        height, width = (int(length) for length in rng.integers(REGION + 16, 2.5 * REGION, 2))
        y, x = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
        return y, x, y + height, x + width

    def examples() -> tuple[list, list]:
        boxes = [large_object(), large_object()]
        return [scene(rng, [box], side) for box in boxes], [BoxTable.of([box]) for box in boxes]

    model = make_model((8, 16, 24, 32), 32, dim=64, context="full", context_options={"depth": 1})
    train(model, 120, examples, rate=3e-3)
    overlaps = []
    for _ in range(20):
        box = large_object()
        merged, _ = found_in(model, scene(rng, [box], side))
        assert len(merged) > 0, f"{box} was not found"
        overlaps.append(iou(merged.edges[0], box))
    # No region sees more than a part, and a box as large as a region would have less than 0.65.
    assert min(overlaps) > 0.65
    assert np.median(overlaps) > 0.8
