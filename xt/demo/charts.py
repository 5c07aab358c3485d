"""The two charts of the report, drawn as SVG: accuracy with its interval, and accuracy while training."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 470, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 120, 16, 40


def accuracy_bars(bars: Sequence[tuple[str, str, float, float, float]], chance: float) -> str:
    """One bar for each (class, title, accuracy, lower bound, upper bound), all in [0, 1]."""
    row = (HEIGHT - TOP - BOTTOM) / len(bars)
    left, width = 120, WIDTH - 120 - 60
    parts = [_grid_columns(left, width)]
    for index, (name, title, accuracy, low, high) in enumerate(bars):
        y = TOP + row * (index + 0.5)
        parts.append(
            f'<g class="{name}"><text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end" class="name">{escape(title)}'
            f'</text><rect class="bar" x="{left}" y="{y - row * 0.27:.1f}" width="{accuracy * width:.1f}" '
            f'height="{row * 0.54:.1f}" rx="4"/><line class="whisker" x1="{left + low * width:.1f}" '
            f'x2="{left + high * width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left + high * width + 8:.1f}" y="{y + 4:.1f}" class="name">{accuracy:.0%}</text></g>'
        )
    x = left + chance * width
    parts.append(
        f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">chance</text>'
    )
    return _svg(parts, "Accuracy on held-out images, with 95 % confidence intervals")


def training_curves(curves: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], x_title: str) -> str:
    """One line for each (class, title, points); a point is x >= 0 and an accuracy in [0, 1]."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    most = max((x for _, _, points in curves for x, _ in points), default=1.0)
    parts = []
    for tick in range(0, 101, 20):
        y = TOP + height * (1 - tick / 100)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick} %</text>'
        )
    ends = _apart([TOP + height * (1 - points[-1][1]) if points else TOP for _, _, points in curves], 15)
    for (name, title, points), end in zip(curves, ends, strict=True):
        places = [(LEFT + x / most * width, TOP + height * (1 - y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = "".join(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
        parts.append(
            f'<g class="{name}"><polyline class="line" points="{path}"/>{dots}'
            f'<text class="name" x="{LEFT + width + 10}" y="{end + 4:.1f}">{escape(title)}</text></g>'
        )
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 18}">0</text>'
        f'<text x="{LEFT + width}" y="{HEIGHT - 18}" text-anchor="end">{most:g}</text>'
        f'<text x="{LEFT + width / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    )
    return _svg(parts, "Accuracy on validation images while training")


def _grid_columns(left: float, width: float) -> str:
    return "".join(
        f'<line class="grid" x1="{left + width * t / 100:.1f}" x2="{left + width * t / 100:.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}"/><text x="{left + width * t / 100:.1f}" y="{HEIGHT - BOTTOM + 16}" '
        f'text-anchor="middle">{t} %</text>'
        for t in range(0, 101, 25)
    )


def _apart(places: Sequence[float], distance: float) -> list[float]:
    """The same places, moved down as far as needed so that labels do not lie on each other."""
    moved = list(places)
    previous = float("-inf")
    for index in sorted(range(len(moved)), key=lambda i: moved[i]):
        previous = moved[index] = max(moved[index], previous + distance)
    return moved


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'style="width:100%;height:auto"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
