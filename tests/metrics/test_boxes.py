"""Average precision of boxes: equal to pycocotools called by hand, and to what can be counted on fingers."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xt.errors import ConfigError, ShapeError
from xt.heads import BoxTable
from xt.labels.merge_boxes import boxes_of_image
from xt.metrics import box_parts
from xt.metrics.boxes import BoxScores

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium",
         "ar_large")  # fmt: skip


def by_hand(
    found: list[BoxTable], true: list[BoxTable], classes: int, caps: tuple[int, ...] = (1, 10, 100)
) -> Any:
    """pycocotools as its own example has it, with COCO's JSON in between."""
    images = [{"id": number} for number in range(len(true))]
    categories = [{"id": 3 * label + 1, "name": str(label)} for label in range(classes)]
    annotations, results = [], []
    for image, (here, there) in enumerate(zip(found, true, strict=True)):
        for (y0, x0, y1, x1), label, crowd, area in zip(
            there.edges, there.labels, there.crowd, there.areas, strict=True
        ):
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": 3 * label + 1,
                                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": int(crowd)})  # fmt: skip
        for (y0, x0, y1, x1), label, score in zip(here.edges, here.labels, here.scores, strict=True):
            results.append({"image_id": image, "category_id": 3 * label + 1, "bbox": [x0, y0, x1 - x0, y1 - y0],
                            "score": score})  # fmt: skip
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = list(caps)
        evaluation.evaluate()
        evaluation.accumulate()
        if caps == (1, 10, 100):
            evaluation.summarize()
    return evaluation


def ours(found: list[BoxTable], true: list[BoxTable], classes: int, **settings: Any) -> dict[str, float]:
    scores = BoxScores(classes, sync=False, **settings)
    for here, there in zip(found, true, strict=True):
        scores.update(here, there)
    return scores.compute()


def scene(
    generator: np.random.Generator, count: int, classes: int, size: float = 1000.0, largest: float = 200.0
) -> tuple[BoxTable, BoxTable]:
    """True boxes, some of crowds; and found ones: moved, of a wrong class, twice, in vain."""
    corner = generator.uniform(0, size, (count, 2))
    side = np.exp(generator.uniform(np.log(8), np.log(largest), (count, 2)))
    edges = np.concatenate([corner, corner + side], axis=1)
    labels = generator.integers(classes, size=count)
    true = BoxTable.of(
        edges,
        labels,
        crowd=generator.random(count) < 0.1,
        areas=side.prod(axis=1) * generator.uniform(0.5, 1, count),
    )
    again = np.concatenate([np.arange(count), generator.integers(count, size=count // 2)])
    moved = edges[again] + generator.normal(0, 0.08, (len(again), 4)) * side[again].mean(
        axis=1, keepdims=True
    )
    moved = np.concatenate(
        [np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], axis=1
    )
    guessed = np.where(
        generator.random(len(again)) < 0.9, labels[again], generator.integers(classes, size=len(again))
    )
    return BoxTable.of(moved, guessed, scores=generator.random(len(again))), true


def test_the_twelve_numbers_are_those_of_pycocotools() -> None:
    generator = np.random.default_rng(0)
    scenes = [scene(generator, count, 3) for count in (30, 0, 7, 60)]
    found, true = [here for here, _ in scenes], [there for _, there in scenes]
    # An image with nothing found, and one with nothing there.
    found[2], true[1] = BoxTable.empty(), BoxTable.empty()
    found[1] = scene(generator, 5, 3)[0]
    numbers = ours(found, true, 3)
    expected = by_hand(found, true, 3)
    assert [numbers[name] for name in NAMES] == pytest.approx(expected.stats.tolist(), abs=1e-12)
    assert len(set(numbers.values())) > 10
    precision = expected.eval["precision"]
    for label in range(3):
        assert numbers[f"ap({label})"] == pytest.approx(precision[:, :, label, 0, 2].mean())


def test_classes_that_are_found_and_are_not_there_have_no_part() -> None:
    found, true = scene(np.random.default_rng(3), 40, 3)
    true = true.select(true.labels != 1)
    numbers = ours([found], [true], 5)
    assert [numbers[name] for name in NAMES] == pytest.approx(
        by_hand([found], [true], 5).stats.tolist(), abs=1e-12
    )
    assert [np.isnan(numbers[f"ap({label})"]) for label in range(5)] == [False, True, False, True, True]


def test_boxes_cut_at_the_image_s_border_count_as_what_is_left_of_them() -> None:
    # In vain: small as it is written, of medium size as it was found.
    head = BoxTable.of([[-20, -20, 20, 20], [50, 50, 60, 60]], scores=[0.9, 0.8])
    found, true = boxes_of_image([head], 100, 100), BoxTable.of([[50, 50, 60, 60]])
    numbers = ours([found], [true], 1)
    assert numbers["ap_small"] == pytest.approx(by_hand([found], [true], 1).stats[3]) == pytest.approx(0.5)


def test_the_caps_are_told_and_change_the_result() -> None:
    found, true = scene(np.random.default_rng(1), 90, 1)
    caps = (2, 20, 60)
    numbers = ours([found], [true], 1, max_detections=caps)
    expected = by_hand([found], [true], 1, caps).eval
    assert numbers["ap"] == pytest.approx(expected["precision"][:, :, :, 0, 2].mean())
    assert [numbers[f"ar_{cap}"] for cap in caps] == pytest.approx(
        expected["recall"][:, 0, 0].mean(axis=0).tolist()
    )
    assert numbers["ap"] < ours([found], [true], 1, max_detections=(2, 20, 200))["ap"]
    with pytest.raises(ConfigError, match=r"three rising numbers from 1 on, got \(1, 1, 5\)"):
        BoxScores(1, max_detections=(1, 1, 5))


def test_what_can_be_counted() -> None:
    true = BoxTable.of([[0, 0, 10, 10], [0, 100, 50, 150], [200, 200, 300, 300]], [0, 0, 0])
    perfect = ours([true], [true], 1)
    expected = {name: 1 / 3 if name == "ar_1" else 1.0 for name in NAMES}
    assert perfect == pytest.approx(expected)
    # One of the three, moved by a fifth of its side: an IoU of 2/3 passes four of the ten thresholds.
    found = BoxTable.of([[40, 200, 60, 300], [200, 220, 300, 320]], [0, 0], scores=[0.1, 0.9])
    numbers = ours([found], [true], 1)
    assert numbers["ap50"] == pytest.approx(34 / 101)
    assert numbers["ap"] == pytest.approx(0.4 * 34 / 101)
    assert numbers["ap_large"] == pytest.approx(0.4)
    assert numbers["ap_small"] == 0
    # Nothing is there: nothing can be said.
    assert all(np.isnan(value) for value in ours([found], [BoxTable.empty()], 1).values())


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    true = BoxTable.of([[0, 0, 10, 10], [100, 100, 200, 200]], [0, 0], crowd=[False, True])
    found = BoxTable.of([[0, 0, 10, 10], [110, 110, 120, 120], [150, 150, 160, 160]], scores=[0.5, 0.9, 0.8])
    assert ours([found], [true], 1)["ap"] == pytest.approx(1.0)
    alone = BoxTable.of([[0, 0, 10, 10]])
    assert ours([found], [alone], 1)["ap"] == pytest.approx(1 / 3)


def test_a_box_without_area_is_missed_as_by_pycocotools() -> None:
    true = BoxTable.of([[0, 0, 10, 10], [5, 5, 5, 5]], [0, 0])
    found = BoxTable.of([[0, 0, 10, 10]])
    numbers, expected = ours([found], [true], 1), by_hand([found], [true], 1).stats
    assert numbers["ap50"] == pytest.approx(expected[1])
    assert numbers["ar_100"] == pytest.approx(0.5)


@pytest.mark.parametrize("caps", [(1, 10, 100), (5, 100, 2000)])
def test_a_crowded_image_divided_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, caps: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(2)
    scenes = [scene(generator, 400, 2, size=900.0, largest=90.0), scene(generator, 20, 2)]
    found, true = [here for here, _ in scenes], [there for _, there in scenes]
    whole = ours(found, true, 2, max_detections=caps)
    monkeypatch.setattr(box_parts, "_FEW_PAIRS", 1000)
    asked: list[Any] = []
    divided = box_parts.divided
    monkeypatch.setattr("xt.metrics.boxes.divided", lambda *rows: asked.append(divided(*rows)) or asked[-1])
    parts = ours(found, true, 2, max_detections=caps)
    assert parts == pytest.approx(whole, abs=1e-12)
    # It has been divided, into many.
    assert len(np.unique(asked[0][1][:, 0])) > 5


def test_processes_put_together_what_they_saw() -> None:
    generator = np.random.default_rng(3)
    scenes = [scene(generator, 10, 2) for _ in range(4)]
    halves = [BoxScores(2, sync=False) for _ in range(2)]
    for number, (found, true) in enumerate(scenes):
        halves[number % 2]._next_image = lambda number=number: number  # type: ignore[method-assign]
        halves[number % 2].update(found, true)
    whole = BoxScores(2, sync=False)
    # As torchmetrics leaves it behind when it has gathered.
    for name in ("found", "true"):
        state = [row for half in halves for row in getattr(half, name)]
        setattr(whole, name, torch.cat(state))
    whole._update_count = len(scenes)
    expected = ours([found for found, _ in scenes], [true for _, true in scenes], 2)
    assert whole.compute() == pytest.approx(expected)


def test_a_class_that_there_is_not_is_refused() -> None:
    with pytest.raises(ShapeError, match="boxes of the classes 2 to 2 came, there are the classes 0 to 1"):
        BoxScores(2).update(BoxTable.of([[0, 0, 1, 1]], [2]), BoxTable.empty())
