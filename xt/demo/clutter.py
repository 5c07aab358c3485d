"""Structured clutter: drawn shapes that have nothing to say, made once as small stamps and laid many times.

Laying a ready stamp costs a few microseconds, which is what lets a scene of 700 million pixels be written
in seconds.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

# In pixels a side.
LARGEST_STAMP = 120
_OVERSAMPLING = 2
_Kind = Callable[[ImageDraw.ImageDraw, np.random.Generator, int, int, int], None]


def make_stamps(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """`count` grey strokes, circles, polygons, checkerboards and gratings, each (h, w) uint8, 0 = none."""
    kinds = (_strokes, _strokes, _circles, _polygon, _checkerboard, _grating)
    return [_stamp(kinds[int(rng.integers(len(kinds)))], rng) for _ in range(count)]


def scatter(
    stamps: list[np.ndarray], density: float, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """Where to lay which stamp, (N, 3): top, left, its number, by top; `density` of them per 64 x 64 pixels."""
    count = int(density * height * width / 64**2)
    tops = np.sort(rng.integers(-LARGEST_STAMP, height, count))
    lefts = rng.integers(-LARGEST_STAMP, width, count)
    return np.stack((tops, lefts, rng.integers(0, len(stamps), count)), axis=1)


def _stamp(kind: _Kind, rng: np.random.Generator) -> np.ndarray:
    height, width = (int(side) for side in np.exp(rng.uniform(np.log(14), np.log(LARGEST_STAMP), 2)))
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    kind(ImageDraw.Draw(canvas), rng, canvas.width, canvas.height, int(rng.integers(45, 190)))
    stamp = np.asarray(canvas.resize((width, height), Image.Resampling.BOX))
    return np.ascontiguousarray(np.rot90(stamp, int(rng.integers(4))))


def _points(rng: np.random.Generator, count: int, width: int, height: int) -> list[tuple[float, float]]:
    return [(float(rng.uniform(0, width)), float(rng.uniform(0, height))) for _ in range(count)]


def _strokes(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, grey: int) -> None:
    # Quadratic curves about as thick as handwriting: the clutter most like a digit.
    thickness = int(rng.integers(1, 5)) * _OVERSAMPLING
    for _ in range(int(rng.integers(1, 4))):
        start, bend, end = (np.array(point) for point in _points(rng, 3, width, height))
        t = np.linspace(0, 1, 12)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        draw.line([(float(x), float(y)) for x, y in curve], fill=grey, width=thickness, joint="curve")


def _circles(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, grey: int) -> None:
    thickness = int(rng.integers(1, 6)) * _OVERSAMPLING
    for _ in range(int(rng.integers(1, 3))):
        (x0, y0), (x1, y1) = _points(rng, 2, width, height)
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if rng.random() < 0.3:
            draw.ellipse(box, fill=grey)
        else:
            draw.ellipse(box, outline=grey, width=thickness)


def _polygon(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, grey: int) -> None:
    points = _points(rng, int(rng.integers(3, 7)), width, height)
    if rng.random() < 0.5:
        draw.polygon(points, fill=grey)
    else:
        draw.line([*points, points[0]], fill=grey, width=int(rng.integers(1, 4)) * _OVERSAMPLING)


def _checkerboard(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, grey: int
) -> None:
    side = int(rng.integers(4, 13)) * _OVERSAMPLING
    for row, y in enumerate(range(0, height, side)):
        for x in range((row % 2) * side, width, 2 * side):
            draw.rectangle((x, y, x + side - 1, y + side - 1), fill=grey)


def _grating(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, grey: int) -> None:
    step, thickness = int(rng.integers(5, 14)) * _OVERSAMPLING, int(rng.integers(1, 4)) * _OVERSAMPLING
    slope = float(rng.uniform(-1, 1)) * height
    for x in range(-height, width + height, step):
        draw.line((x, 0, x + slope, height), fill=grey, width=thickness)
