"""What the labels of one image say: how much of each class, and what cannot be meant."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage
from xt.labels.targets import Target

_STRIPE_PIXELS = 1 << 24
# Beyond that, the side of the windows that are read, and how many there are along each side.
_WHOLE_PIXELS = 1 << 30
_WINDOW, _WINDOWS = 512, 16
_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """Of one image.

    Attributes:
        kind: "mask", "points" or "boxes".
        counts: pixels, points or boxes of each class; classes that there are none of are left out.
        orientation: of a mask, as of its image.
        beyond: points that lie on the map, but not on this image.
    """

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    orientation: int = 1
    beyond: int = 0
    errors: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class LabelLook:
    """What labels mean.

    Attributes:
        class_names: in the order of the class numbers.
        ignore_index: the class number of mask pixels that nothing is said about.
        classes_assumed: whether the classes of masks were guessed, so that another class number may be right.
    """

    class_names: tuple[str, ...] = ()
    ignore_index: int = 255
    classes_assumed: bool = False


def mask_values(mask: LargeImage) -> dict[float, int]:
    """How often each value of a mask of one channel occurs where it holds data; read in stripes, of a very large mask
    in windows all over it."""
    counts: dict[float, int] = {}
    parts = _stripes(mask) if mask.shape[0] * mask.shape[1] <= _WHOLE_PIXELS else _windows(mask)
    for pixels, valid in parts:
        values, numbers = _counted(pixels[valid])
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
    return counts


def mask_facts(mask: LargeImage, how: LabelLook) -> LabelFacts:
    """Of a mask, all of whose pixels are read."""
    class_names, ignored, assumed = how.class_names, how.ignore_index, how.classes_assumed
    values = mask_values(mask)
    known = {value: number for value, number in values.items() if value != ignored}
    counts = {
        class_names[int(value)]: number
        for value, number in sorted(known.items())
        if float(value).is_integer() and 0 <= value < len(class_names)
    }
    others = {value: number for value, number in sorted(known.items()) if not _is_class(value, class_names)}
    errors: list[str] = []
    warnings: list[str] = []
    if others:
        some = ", ".join(
            f"{value:g} ({number:,} pixels)" for value, number in list(others.items())[:_MOST_NAMED]
        )
        more = ", ..." if len(others) > _MOST_NAMED else ""
        place = "as the classes were taken from other masks, " if assumed else ""
        (warnings if assumed else errors).append(
            f"{mask.name} holds {some}{more}, which {'are no classes' if len(others) > 1 else 'is no class'}: {place}"
            f"the classes are 0 to {len(class_names) - 1}, and {ignored} means nothing is known; labels.mask_values "
            "and labels.mask_nodata say what other values mean"
        )
    elif not known:
        warnings.append(f"{mask.name} says nothing: none of its pixels is of a known class")
    return LabelFacts(
        kind="mask",
        counts=counts,
        orientation=mask.orientation,
        errors=errors,
        warnings=warnings,
    )


def _is_class(value: float, class_names: Sequence[str]) -> bool:
    return float(value).is_integer() and 0 <= value < len(class_names)


def point_facts(target: Target, image: LargeImage, class_names: Sequence[str]) -> LabelFacts:
    """Of all points of an image."""
    points: Any = target.on(image)
    beyond = 0 if target.given is None else target.given - len(points)
    rows = np.stack([points.y, points.x, points.labels], axis=1)
    return LabelFacts(
        kind="points",
        counts=_by_class(points.labels, class_names),
        beyond=beyond,
        warnings=_doubles(rows, "points", _source(target, image)),
    )


def box_facts(target: Target, image: LargeImage, class_names: Sequence[str]) -> LabelFacts:
    """Of all boxes of an image."""
    boxes: Any = target.on(image)
    shape, source = image.shape, _source(target, image)
    edges = boxes.edges
    y0, x0, y1, x1 = edges.T if len(boxes) else np.zeros((4, 0))
    outside = (y1 <= 0) | (x1 <= 0) | (y0 >= shape[0]) | (x0 >= shape[1])
    # Annotators' tools let boxes hang over by a pixel.
    hanging = ~outside & ((y0 < -1) | (x0 < -1) | (y1 > shape[0] + 1) | (x1 > shape[1] + 1))
    empty = (y1 <= y0) | (x1 <= x0)
    warnings = _doubles(np.column_stack([edges, boxes.labels]), "boxes", source)
    size = f"which is {shape[0]} x {shape[1]} pixels (height x width)"
    for wrong, what in (
        (outside & ~empty, f"outside of the image, {size}"),
        (hanging, f"partly outside of the image, {size}"),
        (empty, "without any area, which nothing can be learned from"),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            sides = f"width={x1[first] - x0[first]:g}, height={y1[first] - y0[first]:g}"
            place = f"x={x0[first]:g}, y={y0[first]:g}, {sides}"
            warnings.append(f"{source}: {_number(int(wrong.sum()), 'boxes')} {what}; the first is {place}")
    return LabelFacts(kind="boxes", counts=_by_class(boxes.labels, class_names), warnings=warnings)


def _doubles(rows: NDArray[np.float64], what: str, source: str) -> list[str]:
    repeated = len(rows) - len(np.unique(rows, axis=0)) if len(rows) else 0
    if not repeated:
        return []
    return [
        f"{source}: {_number(repeated, what)} at the very place of another one of the same class, listed twice"
    ]


def _number(count: int, what: str) -> str:
    singular = {"points": "point lies", "boxes": "box lies"}[what]
    return f"{count:,} {what} lie" if count > 1 else f"1 {singular}"


def _by_class(labels: NDArray[np.integer], class_names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    return {name: count for name, count in zip(class_names, counts, strict=True) if count}


def _source(target: Target, image: LargeImage) -> str:
    return image.name if target.path is None else f"{target.path}, {image.name}"


def _stripes(mask: LargeImage) -> Iterator[tuple[NDArray, NDArray[np.bool_]]]:
    height, width = mask.shape
    # Whole rows of tiles: no tile is decoded twice.
    rows = max(_STRIPE_PIXELS // width // 512 * 512, 16)
    for y in range(0, height, rows):
        yield mask.read_valid(y, 0, min(rows, height - y), width)


def _windows(mask: LargeImage) -> Iterator[tuple[NDArray, NDArray[np.bool_]]]:
    ys, xs = (np.linspace(0, side - min(_WINDOW, side), _WINDOWS).astype(int) for side in mask.shape)
    for y in np.unique(ys):
        for x in np.unique(xs):
            yield mask.read_valid(int(y), int(x), min(_WINDOW, mask.shape[0]), min(_WINDOW, mask.shape[1]))


def _counted(values: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    if values.dtype == np.uint8:
        # As `np.unique`, without sorting millions of pixels.
        counts = np.bincount(values, minlength=256)
        there = np.flatnonzero(counts)
        return there, counts[there]
    return np.unique(values, return_counts=True)
