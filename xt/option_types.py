"""Options of parts, which come from files and command lines: of the type that the part's signature says, and sane."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from sys import float_info
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from xt.errors import ConfigError

Described = TypeVar("Described")

LARGEST = 2**24
"""No option of a part is a larger number; what is meant as "no limit" can be said with it."""

Measures = Annotated[Sequence[float] | None, "of any size"]
"""Numbers that are measured on data, whatever its unit: nothing is made in their number or size."""

Descriptions = Annotated[Mapping[str, Any] | None, "of any size"]
"""Descriptions in which such numbers are; whoever makes something of them checks them once more."""


def check_option(name: str, value: Any, kind: Any) -> None:
    """Refuse a value that is not of the type in a signature.

    Args:
        name: for the message.
        kind: as in annotations: `int`, `float | None`, `Mapping[str, float]` and the like.

    Raises:
        ConfigError: it is of another type, or holds a number that is not finite or beyond `LARGEST`.
    """
    is_measured = get_origin(kind) is Annotated
    check_numbers(name, value, float_info.max if is_measured else LARGEST)
    kind = get_args(kind)[0] if is_measured else kind
    if not _is_of(value, kind):
        raise ConfigError(f"{name} must be {in_words(kind)}, got {value!r}")


def check_numbers(name: str, value: Any, largest: float = LARGEST) -> None:
    """Refuse numbers, also inside of lists and mappings, that are not finite or larger than anything meant.

    Raises:
        ConfigError: there is one.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            check_numbers(name, inner, largest)
    elif isinstance(value, int | float) and not (isfinite(value) and abs(value) <= largest):
        raise ConfigError(f"{name} must be at most {largest} and finite, got {value}")


def from_dict(cls: type[Described], values: Any, section: str) -> Described:
    """A dataclass from what a file says of it.

    Args:
        section: what the values are, for messages: "model".

    Raises:
        ConfigError: they are no section of keys and values, a key is unknown, or a value has another type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section} must be a section of keys and values, got {type(values).__name__}")
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    kinds = get_type_hints(cls)
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown key {f'{section}.{name}'!r}; there are {', '.join(sorted(known))}")
        if not _is_of(value, kinds[name]):
            raise ConfigError(f"{section}.{name} must be {in_words(kinds[name])}, got {value!r}")
    return cls(**{name: _as_kind(value, kinds[name]) for name, value in values.items()})


def in_words(kind: Any) -> str:
    """A type as a user would call it."""
    if kind in _WORDS:
        return _WORDS[kind]
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, options))}"
    if get_origin(kind) in (tuple, Sequence):
        return f"a list, each {in_words(options[0])}"
    if get_origin(kind) in (dict, Mapping):
        return "a section of keys and values"
    return " or ".join(dict.fromkeys(map(in_words, options))) if options else str(kind)


def _as_kind(value: Any, kind: Any) -> Any:
    """A whole number as the number that is meant."""
    if isinstance(value, list):
        return [_as_kind(item, _item_kind(kind)) for item in value]
    is_float = kind is float or float in get_args(kind)
    return float(value) if is_float and type(value) is int else value


def _item_kind(kind: Any) -> Any:
    return float if Sequence[float] in (kind, *get_args(kind)) else Any


def in_range(
    name: str,
    value: float,
    low: float,
    high: float = float("inf"),
    *,
    lower_open: bool = False,
    upper_open: bool = False,
) -> None:
    """Refuse a number that is outside of its range.

    Raises:
        ConfigError: names the field, the range and the number.
    """
    above = value > low if lower_open else value >= low
    below = value < high if upper_open else value <= high
    if above and below:
        return
    if high == float("inf"):
        expected = f"{'>' if lower_open else '>='} {low}"
    else:
        expected = f"in {'(' if lower_open else '['}{low}, {high}{')' if upper_open else ']'}"
    raise ConfigError(f"{name} must be {expected}, got {value}")


def _is_of(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    inner = get_args(kind)
    match get_origin(kind):
        case None:
            return isinstance(value, _ACCEPTED.get(kind, kind)) and (
                kind is bool or not isinstance(value, bool)
            )
        case origin if origin is Mapping:
            return isinstance(value, Mapping) and all(
                _is_of(key, inner[0]) and _is_of(item, inner[1]) for key, item in value.items()
            )
        case origin if origin is Sequence:
            return isinstance(value, list | tuple) and all(_is_of(item, inner[0]) for item in value)
        case _:
            return any(_is_of(value, one) for one in inner)


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "nothing (null)",
}
# A whole number is a number, too.
_ACCEPTED: dict[Any, Any] = {float: (int, float)}
