"""Boxes in windows, mirrored and turned: what is left of each is what is seen of it."""

import numpy as np
import pytest

import xt
from xt.data.augmentation import Augmentation
from xt.heads import BoxTable
from xt.labels.box_windows import BoxesOnImage, BoxPlaces, cut_boxes, with_area
from xt.labels.labelled import ImageWithBoxes, random_window

HEIGHT, WIDTH = 70, 110


def drawn() -> tuple[np.ndarray, BoxTable]:
    """Objects as rectangles of their own number, which do not overlap, and their boxes."""
    edges = np.array([[3, 5, 20, 31], [25, 60, 60, 70], [40, 2, 69, 40], [10, 80, 14, 108]])
    pixels = np.zeros((HEIGHT, WIDTH), np.float32)
    for number, (y0, x0, y1, x1) in enumerate(edges, start=1):
        pixels[y0:y1, x0:x1] = number
    return pixels, BoxTable.of(edges, labels=[1, 2, 3, 4])


def seen(pixels: np.ndarray) -> dict[int, list[int]]:
    """Number of each object -> edges of the pixels that are seen of it."""
    result = {}
    for number in np.unique(pixels[pixels > 0]).astype(int):
        y, x = np.nonzero(pixels == number)
        result[int(number)] = [int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1]
    return result


def test_boxes_are_where_their_objects_are_seen() -> None:
    pixels, boxes = drawn()
    pair = ImageWithBoxes(xt.open_image(pixels), boxes)
    augmentation = Augmentation(train_size=48)
    shapes, cut, faint = set(), 0, 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        window = random_window(pair, 48, 0.5, BoxPlaces(boxes), generator).augmented(augmentation, generator)
        assert isinstance(window.target, BoxTable)
        there = window.image.read(0, 0, *window.image.shape)[..., 0]
        expected = seen(there)
        found = {
            int(label): edges.tolist()
            for label, edges in zip(window.target.labels, window.target.edges, strict=True)
        }
        assert found == expected
        for label, crowd, area in zip(
            window.target.labels, window.target.crowd, window.target.areas, strict=True
        ):
            whole, part = (pixels == label).sum(), (there == label).sum()
            assert area == pytest.approx(part)
            assert crowd == (part < whole / 4)
            cut, faint = cut + (part < whole), faint + bool(crowd)
        shapes.add(there.tobytes())
    assert len(shapes) > 40
    assert cut > faint > 5


def test_every_way_to_lay_an_image_down() -> None:
    pixels, boxes = drawn()
    image = xt.open_image(pixels)
    for flips in ("", "y", "x", "yx"):
        for turns in range(-1, 5):
            view, turned = image, BoxesOnImage(boxes, HEIGHT, WIDTH)
            for axis in flips:
                view, turned = view.flip(axis), turned.flip(axis)
            view, turned = view.rotate(turns), turned.rotate(turns)
            assert (turned.height, turned.width) == view.shape
            found = {
                int(label): edges
                for label, edges in zip(turned.boxes.labels, turned.boxes.edges.tolist(), strict=True)
            }
            assert found == seen(view.read(0, 0, *view.shape)[..., 0])


def test_cut_boxes_keep_what_else_is_known() -> None:
    boxes = BoxTable.of(
        [[0, 0, 10, 10], [0, 20, 10, 30], [0, 8, 0, 18]],
        [0, 1, 2],
        crowd=[False, True, False],
        areas=[50, 80, 0],
    )
    cut = cut_boxes(boxes, 0, 5, 100, 20)
    # The third has no area at all.
    assert cut.edges.tolist() == [[0, 0, 10, 5], [0, 15, 10, 20]]
    assert cut.areas.tolist() == [25, 40]
    assert cut.crowd.tolist() == [False, True]
    assert len(with_area(boxes)) == 2


def test_every_class_is_drawn_as_often() -> None:
    edges = np.stack([np.arange(50), np.arange(50), np.arange(50) + 2, np.arange(50) + 4], axis=1)
    places = BoxPlaces(BoxTable.of(edges, [0] * 48 + [1, 2], crowd=[False] * 49 + [True]))
    generator = np.random.default_rng(0)
    drawn = [places(generator) for _ in range(200)]
    # The one box of class 1; the crowd is never drawn.
    assert 70 < drawn.count((49.0, 50.0)) < 130
    assert (50.0, 51.0) not in drawn
    assert BoxPlaces(BoxTable.empty())(generator) is None
