"""A picture to look at quickly: the image, and on it the mask's classes, or the points or boxes that were found."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.labels.box_table import BoxTable
from xt.results.colours import Colour, class_colours, point_colours
from xt.results.kept_pixels import NOTHING
from xt.results.panels import draw_bars, draw_grey, draw_image, draw_scale, frame, layout, save
from xt.results.seen_regions import SeenRegions, draw_seen_regions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xt.images import LargeImage

_LONGEST = 1400
_OPACITY = 0.65
_PALE = (0.9, 0.9, 0.9, 0.5)
_BARS = 8
# More than this would hide each other and take long to draw.
_MOST_DRAWN = 5000
_PLURALS = {"point": "points", "box": "boxes"}


def write_mask_overlay(
    mask: "LargeImage",
    picture: NDArray[np.float32],
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    counts: Mapping[str, int],
    *,
    title: str,
    microns_per_pixel: float | None = None,
    regions: SeenRegions | None = None,
) -> Path:
    """Write a PNG: the image; the image in grey under the classes in the mask's colours; each class's share of it.

    Class 0 is left clear, so that the image is seen.

    Args:
        mask: class numbers as they were written, with levels.
        picture: (height, width, 3) in [0, 1], NaN where there is nothing; see `thumbnail`.
        counts: pixels by class name.
        title: the image's name.
        microns_per_pixel: of the image's level 0, for a scale bar.
        regions: that were looked at, drawn on the image; None where that was everything.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    colours = class_colours(len(class_names))
    table = np.zeros((NOTHING + 1, 4), dtype=np.float32)
    table[: len(colours), :3] = np.array(colours) / 255
    table[1 : len(colours), 3] = _OPACITY
    table[NOTHING] = _PALE
    figure, axes, bars = layout(mask.shape, min(len(class_names), _BARS))
    _draw_image(axes[0], picture, mask.shape, regions)
    draw_grey(axes[1], picture, mask.shape)
    small, pixel_size = _small(mask)
    height, width = (size * pixel_size for size in small.shape)
    axes[1].imshow(table[small], extent=(0, width, height, 0), interpolation="nearest")
    axes[1].set_title("classes" + ("" if len(class_names) > _BARS else " in the colours below"), fontsize=9)
    frame(axes[1], mask.shape)
    if microns_per_pixel is not None:
        draw_scale(axes[0], mask.shape[1], microns_per_pixel)
    total = max(sum(counts.values()), 1)
    shares = [(name, counts[name] / total) for name in class_names]
    _draw_classes(bars, shares, colours, "share of the pixels", None)
    best, share = max(shares, key=lambda item: item[1])
    return save(figure, destination, title, f"most of it: {best} ({share:.1%})")


def write_points_overlay(
    points: Mapping[str, NDArray[np.float64]],
    shape: tuple[int, int],
    picture: NDArray[np.float32],
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    title: str,
    microns_per_pixel: float | None = None,
    regions: SeenRegions | None = None,
) -> Path:
    """Write a PNG: the image; the image in grey with a circle around each point; how many there are of each class.

    Args:
        points: (N,) each "y", "x" in pixels of the image, "score" and "label". Of very many, the best are drawn.
        shape: (height, width) of the image.
        others: as of `write_mask_overlay`.
    """
    best = np.argsort(-points["score"], kind="stable")[:_MOST_DRAWN]
    labels = points["label"].astype(int)
    figure, axes = _layout_of_objects(
        labels, len(best), shape, picture, class_names, "point", microns_per_pixel, regions
    )
    axes.scatter(
        points["x"][best], points["y"][best], s=28, facecolors="none", linewidths=0.9,
        edgecolors=_edge_colours(labels[best], class_names),
    )  # fmt: skip
    return save(figure, destination, title, _number_of(len(labels), "point"))


def write_boxes_overlay(
    boxes: BoxTable,
    shape: tuple[int, int],
    picture: NDArray[np.float32],
    destination: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    title: str,
    microns_per_pixel: float | None = None,
    regions: SeenRegions | None = None,
) -> Path:
    """Write a PNG: the image; the image in grey with the boxes; how many there are of each class.

    Boxes of a score below one half are the fainter the lower it is: a detector names many that it hardly believes in.

    Args:
        boxes: in pixels of the image. Of very many, the best are drawn.
        others: as of `write_points_overlay`.
    """
    from matplotlib.collections import PolyCollection

    # The best last, on top.
    best = np.argsort(-boxes.scores, kind="stable")[:_MOST_DRAWN][::-1]
    figure, axes = _layout_of_objects(
        boxes.labels, len(best), shape, picture, class_names, "box", microns_per_pixel, regions
    )
    # Each corner as x, y.
    corners = list(boxes.edges[best][:, [1, 0, 1, 2, 3, 2, 3, 0]].reshape(-1, 4, 2))
    edge_colours = [
        (*colour, min(1.0, 2 * score))
        for colour, score in zip(
            _edge_colours(boxes.labels[best], class_names), boxes.scores[best], strict=True
        )
    ]
    axes.add_collection(
        PolyCollection(corners, facecolors="none", edgecolors=edge_colours, linewidths=0.9),
        autolim=False,
    )
    return save(figure, destination, title, _number_of(len(boxes), "box"))


def _draw_image(
    axes: "Axes", picture: NDArray[np.float32], shape: tuple[int, int], regions: SeenRegions | None
) -> None:
    draw_image(axes, picture, shape)
    if regions is not None:
        draw_seen_regions(axes, regions)


def _layout_of_objects(
    labels: NDArray[np.integer],
    num_drawn: int,
    shape: tuple[int, int],
    picture: NDArray[np.float32],
    class_names: Sequence[str],
    what: str,
    microns_per_pixel: float | None,
    regions: SeenRegions | None,
) -> "tuple[Figure, Axes]":
    """Everything but the objects themselves, and where they are to be drawn."""
    figure, axes, bars = layout(shape, min(len(class_names), _BARS))
    _draw_image(axes[0], picture, shape, regions)
    draw_grey(axes[1], picture, shape)
    total, things = len(labels), _PLURALS[what]
    shown = "" if total <= num_drawn else f", the best {num_drawn:,} of {total:,}"
    axes[1].set_title(f"{things}{shown}", fontsize=9)
    frame(axes[1], shape)
    if microns_per_pixel is not None:
        draw_scale(axes[0], shape[1], microns_per_pixel)
    counts = np.bincount(labels, minlength=len(class_names))
    shares = [(name, count / max(total, 1)) for name, count in zip(class_names, counts, strict=True)]
    colours = point_colours(len(class_names))
    _draw_classes(bars, shares, colours, f"share of the {things}", [f"{count:,}" for count in counts])
    return figure, axes[1]


def _edge_colours(
    labels: NDArray[np.integer], class_names: Sequence[str]
) -> list[tuple[float, float, float]]:
    """As matplotlib takes them."""
    colours = [(red / 255, green / 255, blue / 255) for red, green, blue in point_colours(len(class_names))]
    return [colours[label] for label in labels]


def _number_of(total: int, what: str) -> str:
    return f"{total:,} {what if total == 1 else _PLURALS[what]}"


def _draw_classes(
    axes: "Axes | None",
    shares: Sequence[tuple[str, float]],
    colours: Sequence[Colour],
    label: str,
    texts: Sequence[str] | None,
) -> None:
    """The classes with the largest shares, in their colours."""
    if axes is None:
        return
    largest = sorted(range(len(shares)), key=lambda number: -shares[number][1])[:_BARS]
    rows = [
        (*shares[number], "#" + "".join(f"{value:02x}" for value in colours[number])) for number in largest
    ]
    more = "" if len(shares) <= _BARS else f" (largest {_BARS} of {len(shares)})"
    draw_bars(axes, rows, label + more, None if texts is None else [texts[number] for number in largest])


def _small(mask: "LargeImage") -> tuple[NDArray[np.uint8], float]:
    """(height, width) of the mask from its lowest level that is large enough, and its pixels' size at level 0."""
    wanted = max(mask.shape) / _LONGEST
    level = max(number for number, factor in enumerate(mask.levels) if factor <= max(wanted, 1.0))
    stride = max(1, round(wanted / mask.levels[level]))
    pixels: NDArray[np.uint8] = mask.read(0, 0, *mask.level_shapes[level], level=level)
    return pixels[::stride, ::stride, 0], stride * mask.levels[level]
