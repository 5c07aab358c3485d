"""Options of parts, which come from files and command lines: of the type that the part's signature says, and sane."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, get_args, get_origin

from xt.errors import ConfigError

LARGEST = 2**24
"""No option of a part is a larger number; what is meant as "no limit" can be said with it."""


def check_option(name: str, value: Any, kind: Any) -> None:
    """Refuse a value that is not of the type in a signature.

    Args:
        name: for the message.
        kind: as in annotations: `int`, `float | None`, `Mapping[str, float]` and the like.

    Raises:
        ConfigError: it is of another type, or holds a number that is not finite or beyond `LARGEST`.
    """
    check_numbers(name, value)
    if not _is_of(value, kind):
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        raise ConfigError(f"{name} must be {wanted.replace('collections.abc.', '')}, got {value!r}")


def check_numbers(name: str, value: Any, largest: int = LARGEST) -> None:
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


def _is_of(value: Any, kind: Any) -> bool:
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


# A whole number is a number, too.
_ACCEPTED: dict[Any, Any] = {float: (int, float)}
