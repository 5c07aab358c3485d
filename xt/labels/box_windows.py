"""Boxes in windows of their image, mirrored and turned: what a training step is told of objects cut by its window."""

from dataclasses import dataclass

import numpy as np

from xt.labels.box_table import BoxTable

LEAST_SHARE = 0.25
"""Of an object's box, below which what a window leaves of it is too little to name."""


def cut_boxes(boxes: BoxTable, y: float, x: float, height: float, width: float) -> BoxTable:
    """The boxes as a window shows them, in its pixels: each is cut at the window's borders.

    So an object at the border of a window is what an object at the border of an image is: as large as what is seen of
    it. One of which less than `LEAST_SHARE` is seen becomes `crowd`, neither an object nor background; one of which
    nothing is seen is left out. Areas shrink in the same proportion.
    """
    seen = boxes.within(y, x, height, width).shifted(-y, -x)
    whole = seen.heights * seen.widths
    cut = seen.clipped(height, width)
    share = cut.heights * cut.widths / np.maximum(whole, np.finfo(float).tiny)
    return with_area(
        BoxTable.of(
            cut.edges,
            cut.labels,
            scores=cut.scores,
            crowd=cut.crowd | (share < LEAST_SHARE),
            areas=cut.areas * share,
        )
    )


def with_area(boxes: BoxTable) -> BoxTable:
    """The boxes that hold anything: those without height or width cannot be learned from."""
    return boxes.select((boxes.heights > 0) & (boxes.widths > 0))


@dataclass(frozen=True)
class BoxesOnImage:
    """Boxes of an image of height x width pixels, which flip and turn as the image does."""

    boxes: BoxTable
    height: int
    width: int

    def flip(self, axis: str) -> "BoxesOnImage":
        y0, x0, y1, x1 = self.boxes.edges.T
        edges = (
            (self.height - y1, x0, self.height - y0, x1)
            if axis == "y"
            else (y0, self.width - x1, y1, self.width - x0)
        )
        return BoxesOnImage(self._moved(*edges), self.height, self.width)

    def rotate(self, quarter_turns: int) -> "BoxesOnImage":
        turned = self
        for _ in range(quarter_turns % 4):
            y0, x0, y1, x1 = turned.boxes.edges.T
            # Counter-clockwise: what was at the right edge comes to the top.
            moved = turned._moved(turned.width - x1, y0, turned.width - x0, y1)
            turned = BoxesOnImage(moved, turned.width, turned.height)
        return turned

    def _moved(self, y0: np.ndarray, x0: np.ndarray, y1: np.ndarray, x1: np.ndarray) -> BoxTable:
        boxes = self.boxes
        return BoxTable(y0, x0, y1, x1, boxes.labels, boxes.scores, boxes.crowd, boxes.areas)


class BoxPlaces:
    """Draws the centres of boxes, first the class, each of those there are as likely, so that rare ones are seen."""

    def __init__(self, boxes: BoxTable) -> None:
        self.boxes = boxes.select(~boxes.crowd)

    def __call__(self, generator: np.random.Generator) -> tuple[float, float] | None:
        if not len(self.boxes):
            return None
        labels = np.unique(self.boxes.labels)
        label = labels[int(generator.integers(len(labels)))]
        centres = self.boxes.centres[self.boxes.labels == label]
        y, x = centres[int(generator.integers(len(centres)))]
        return float(y), float(x)
