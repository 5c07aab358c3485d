"""One entry of a COCO file at a time: its numbers in whatever spelling programs write them, its box from its outline.

Errors are `ValueError`s whose text says what is wrong with which entry; the reader of the file adds its name.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xt.labels.formats.columns import class_name, in_words

Identity = int | str
"""What tells images and categories of a file apart: a whole number, or any text that is none."""

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Of the text that holds run lengths each letter has 5 bits, a sixth says that more follow.
_FIRST, _BITS, _MORE, _LETTERS = 48, 5, 0x20, 64


class CocoImage(NamedTuple):
    """An image that a file lists; its size is None where the file does not say."""

    number: Identity
    file_name: str
    shape: tuple[int, int] | None


class Annotation(NamedTuple):
    """An object of a file.

    Attributes:
        name: what it is called in messages.
        image, category: see `identity`.
        box: y0, x0, y1, x1.
        area: in square pixels.
    """

    name: str
    image: Identity
    category: Identity
    box: tuple[float, float, float, float]
    area: float
    crowd: bool


def identity(value: Any) -> Identity:
    """Whole numbers as numbers, also those written as 7.0 or "7"; other texts as they are.

    Raises:
        ValueError: it is nothing, true or false, or a list.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise ValueError(f"{value!r} is neither a number nor a name")
    return int(text.split(".")[0]) if _WHOLE.fullmatch(text) else text


def number(value: Any) -> float:
    """A finite number, also one written as text.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_short(value)} is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{_short(value)} is no finite number")
    return found


def read_image(entry: Mapping[str, Any]) -> CocoImage:
    """An image; a size of 0, -1 or nothing is none."""
    key = identity(_needed(entry, "id", "an image"))
    name = f"image {key}"
    file_name = _needed(entry, "file_name", name)
    if not isinstance(file_name, str) or not file_name.strip():
        raise ValueError(f"{name} has the file_name {_short(file_name)}")
    sides = []
    for side in ("height", "width"):
        given = entry.get(side)
        length = 0.0 if given in (None, "") else _said(name, side, given)
        if length > 0 and not length.is_integer():
            raise ValueError(f"{name} has the {side} {_short(given)}, which is no whole number")
        sides.append(int(length))
    # A result must have the number in the file's own spelling.
    given = entry["id"]
    shape = (sides[0], sides[1]) if min(sides) > 0 else None
    return CocoImage(given if isinstance(given, str) else key, file_name.strip(), shape)


def read_category(entry: Mapping[str, Any]) -> tuple[Identity, str]:
    """Its number, in the file's own spelling, and what it is called."""
    given_id = _needed(entry, "id", "a category")
    key = identity(given_id)
    given = _needed(entry, "name", f"category {key}")
    if not isinstance(given, str | int | float) or not (name := class_name(given)):
        raise ValueError(f"category {key} has the name {_short(given)}")
    return given_id if isinstance(given_id, str) else key, name


def read_annotation(entry: Mapping[str, Any], place: int) -> Annotation:
    """An object; without a box that around its outline.

    Args:
        place: in the file's list, which it is called by if it has no id.
    """
    given = entry.get("id")
    name = f"annotation {given}" if isinstance(given, str | int) else f"annotation in place {place}"
    keys = []
    for what in ("image_id", "category_id"):
        value = _needed(entry, what, name)
        try:
            keys.append(identity(value))
        except ValueError as error:
            raise ValueError(f"the {name} has a wrong {what}: {error}") from None
    box = _box(entry, name)
    x, y, width, height = _turned(box, entry, name)
    area = box[2] * box[3] if entry.get("area") in (None, "") else _said(name, "area", entry["area"])
    crowd = in_words(entry.get("iscrowd", 0))
    if crowd is None:
        raise ValueError(
            f"the {name} has the iscrowd {_short(entry['iscrowd'])}, which is neither yes nor no"
        )
    # Like a size of -1: not known.
    area = box[2] * box[3] if area < 0 else area
    return Annotation(name, keys[0], keys[1], (y, x, y + height, x + width), area, crowd)


def _box(entry: Mapping[str, Any], name: str) -> tuple[float, float, float, float]:
    """x, y, width, height."""
    given = entry.get("bbox")
    # As some programs write it where they only know the outline.
    unknown = given in ([0, 0, 0, 0], [-1, -1, -1, -1]) and entry.get("segmentation")
    if given in (None, [], "") or unknown:
        try:
            return outline_box(entry.get("segmentation"))
        except ValueError as error:
            raise ValueError(f"the {name} has no bbox, and {error}") from None
    if not isinstance(given, list) or len(given) != 4:
        raise ValueError(f"the {name} has the bbox {_short(given)}; expected x, y, width, height")
    try:
        x, y, width, height = (number(value) for value in given)
    except ValueError as error:
        raise ValueError(f"the {name} has the bbox {_short(given)}: {error}") from None
    if width < 0 or height < 0 or not math.isfinite(width * height):
        raise ValueError(
            f"the box of the {name} is x={x:g}, y={y:g}, width={width:g}, height={height:g}; expected finite numbers, "
            "none of the sides negative; mend it or take it out"
        )
    return x, y, width, height


def _turned(
    box: tuple[float, float, float, float], entry: Mapping[str, Any], name: str
) -> tuple[float, float, float, float]:
    """The box around one that CVAT has turned about its middle, by degrees beside it."""
    attributes = entry.get("attributes")
    given = attributes.get("rotation") if isinstance(attributes, Mapping) else None
    return box if given in (None, "") else box_around(box, _said(name, "rotation", given))


def box_around(box: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """x, y, width, height of the upright box around one that is turned about its middle."""
    if degrees % 180 == 0:
        return box
    x, y, width, height = box
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    wide, high = width * cosine + height * sine, width * sine + height * cosine
    return x + (width - wide) / 2, y + (height - high) / 2, wide, high


def outline_box(outline: Any) -> tuple[float, float, float, float]:
    """x, y, width, height of the box around polygons, or around a mask of run lengths, as COCO has them.

    Raises:
        ValueError: there is no outline, or it is of another form.
    """
    if isinstance(outline, Mapping):
        return _box_of_runs(outline)
    if not outline or not isinstance(outline, list):
        raise ValueError("no outline ('segmentation') that it could be taken from")
    values = [value for polygon in _polygons(outline) for value in polygon]
    if len(values) < 4:
        raise ValueError("its outline is empty")
    x, y = values[0::2], values[1::2]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _polygons(outline: list[Any]) -> Iterator[list[float]]:
    """The numbers x, y, x, y ... of each, whether they are one polygon, several, or in pairs."""
    if not any(isinstance(inner, list) for inner in outline):
        if len(outline) % 2:
            raise ValueError(f"its outline has {len(outline)} numbers, x and y are pairs")
        yield [number(value) for value in outline]
        return
    for inner in outline:
        if not isinstance(inner, list):
            raise ValueError(f"its outline holds {_short(inner)} beside lists")
        yield from _polygons(inner)


def _box_of_runs(runs: Mapping[str, Any]) -> tuple[float, float, float, float]:
    size, counts = runs.get("size"), runs.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, str | list) or not counts:
        raise ValueError("its outline has no size of two numbers, or no counts")
    height, width = (int(number(side)) for side in size)
    lengths = np.array(_unpacked(counts) if isinstance(counts, str) else [number(n) for n in counts], float)
    if height <= 0 or width <= 0 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"the run lengths of its outline do not add up to {height} x {width} pixels")
    ends = lengths.cumsum()
    # Every second run is the object; runs go down the columns.
    first, last = (ends - lengths)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        raise ValueError("its outline is empty")
    x0, x1 = first.min() // height, last.max() // height
    over = bool((first // height != last // height).any())
    y0, y1 = (0.0, height - 1.0) if over else ((first % height).min(), (last % height).max())
    return float(x0), float(y0), float(x1 - x0 + 1), float(y1 - y0 + 1)


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text: each but the first three as the difference to the one before the last."""
    found: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - _FIRST
        if not 0 <= code < _LETTERS:
            raise ValueError(f"the run lengths of its outline hold the letter {letter!r}")
        value |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if not code & _MORE:
            # The last bit is the sign's.
            value -= (1 << shift) if code & (_MORE >> 1) else 0
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the run lengths of its outline are cut off")
    return found


def _needed(entry: Mapping[str, Any], what: str, name: str) -> Any:
    if entry.get(what) is None:
        raise ValueError(f"{'' if name.startswith('an') else 'the '}{name} has no {what!r}")
    return entry[what]


def _said(name: str, what: str, value: Any) -> float:
    try:
        return number(value)
    except ValueError as error:
        raise ValueError(f"the {name} has a wrong {what}: {error}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
