"""Files as accidents, other programs and bad disks leave them: changed copies of good ones, the same for each seed.

`changed` works on what a file says (nested lists and dictionaries, as JSON and YAML have them), `changed_text` on the
cells of a table, `changed_bytes` on the bytes of any file.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

from numpy.random import Generator

# What stands where something else is expected.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 255, 2**31, 2**63, -(2**63), 10**30, 1e-300, 1e308, math.nan, math.inf,
    -math.inf, "", " ", "a", "0", "12", "-1", "1e999", "nan", "null", "true", "\x00", "é", "[]", "../..", "a" * 5000,
    [], {}, [[]], [None], [0, 0], [1, 2, 3, 4, 5], {"a": 1}, {"": {}}, [{"name": "x"}],
)  # fmt: skip
ODD_CELLS = (
    "", " ", "a", "-1", "0", "1e308", "1e999", "nan", "inf", "-inf", "9" * 40, "1,5", "1;5", '"', "'", "\x00", "é",
    "\ufeff", "true", "None", "|", "a|b", "../..", "x" * 5000,
    "[1]", "{}", "1_0", "0x1f", "١", "=1+1", "#", "\t", "\\", "/",
)  # fmt: skip


def changed(value: Any, draw: Generator) -> Any:
    """A copy with one to three places replaced, removed, doubled, wrapped, moved or renamed."""
    value = copy.deepcopy(value)
    for _ in range(int(draw.integers(1, 4))):
        places = list(_places(value))
        if not places:
            return _pick(ODD, draw)
        holder, key = places[int(draw.integers(len(places)))]
        _CHANGES[int(draw.integers(len(_CHANGES)))](holder, key, places, draw)
    return value


def changed_text(text: str, draw: Generator, separators: str = ",\n") -> str:
    """A copy with one to three cells replaced, removed, doubled or moved; or with changed bytes."""
    if draw.random() < 0.2:
        return changed_bytes(text.encode(), draw).decode(errors="replace")
    for _ in range(int(draw.integers(1, 4))):
        cuts = [0, *(place for place, letter in enumerate(text) if letter in separators), len(text)]
        number = int(draw.integers(len(cuts) - 1))
        start, stop = cuts[number], cuts[number + 1]
        cell = text[start:stop]
        head = cell[:1] if cell[:1] in separators else ""
        other = int(draw.integers(len(cuts) - 1))
        texts = (
            head + str(_pick(ODD_CELLS, draw)),
            "",
            cell * 2,
            text[cuts[other] : cuts[other + 1]],
            cell[1:],
        )
        text = text[:start] + str(_pick(texts, draw)) + text[stop:]
    return text


def changed_bytes(content: bytes, draw: Generator) -> bytes:
    """A copy with one to four stretches overwritten, removed, doubled or put in, or cut off somewhere.

    Half of the changes are in the first kilobyte, where headers are, and most are short.
    """
    result = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        if not result:
            break
        end = min(len(result), 1024) if draw.random() < 0.5 else len(result)
        start = int(draw.integers(end))
        stop = start + int(draw.choice([1, 1, 1, 2, 4, 8, 64, 1024]))
        size = len(result[start:stop])
        kind = int(draw.integers(8))
        if kind == 0:
            del result[start:]
        elif kind == 1:
            del result[start:stop]
        elif kind == 2:
            result[start:start] = result[start:stop]
        elif kind == 3:
            result[start:stop] = bytes([int(draw.choice([0, 255]))]) * size
        elif kind == 4:
            result[start] ^= 1 << int(draw.integers(8))
        else:
            result[start:stop] = draw.bytes(size)
    return bytes(result)


def _pick(values: Any, draw: Generator) -> Any:
    return copy.deepcopy(values[int(draw.integers(len(values)))])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everything inside, as what holds it and where."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _replace(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    holder[key] = _pick(ODD, draw)


def _remove(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    del holder[key]


def _double(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_2"] = copy.deepcopy(holder[key])


def _wrap(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    holder[key] = [holder[key]] if draw.random() < 0.5 else {str(key): holder[key]}


def _move(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    other, place = places[int(draw.integers(len(places)))]
    holder[key] = copy.deepcopy(other[place])


def _rename(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    if isinstance(holder, dict):
        holder[str(_pick(("", "a", "id", "name", "type", "__class__", f"{key} "), draw))] = holder.pop(key)
    else:
        holder.reverse()


def _scale(holder: Any, key: Any, places: Any, draw: Generator) -> None:
    """A number of another size, or written as a text."""
    if isinstance(holder[key], int | float):
        holder[key] = _pick((holder[key] * 1e6, -holder[key], holder[key] + 0.5, str(holder[key])), draw)
    else:
        holder[key] = _pick(ODD, draw)


_CHANGES = (_replace, _replace, _remove, _double, _wrap, _move, _rename, _scale)
