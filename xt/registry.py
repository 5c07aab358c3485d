"""Parts made by name: a table of classes, and one clear sentence when a name or an option does not fit."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from xt.errors import ConfigError
from xt.option_types import check_option

Part = TypeVar("Part")


def create(kind: str, table: Mapping[str, type[Part]], name: str, **options: Any) -> Part:
    """Make the part of that name.

    Args:
        kind: what the table holds, for the message: "context encoder", "head".
        options: keyword arguments of the class.

    Raises:
        ConfigError: the name is not in the table, the class takes no such option, or one of another type.
    """
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, table)}; there are {', '.join(table)}")
    known = inspect.signature(table[name]).parameters
    for option in options:
        if option not in known:
            raise ConfigError(
                f"the {kind} {name!r} has no option {option!r}{nearest(option, known)}; it takes {', '.join(known)}"
            )
    hints = get_type_hints(table[name].__init__)
    for option, value in options.items():
        check_option(f"{option} of the {kind} {name!r}", value, hints[option])
    return table[name](**options)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as " (did you mean 'depth'?)", or nothing where no name is near."""
    near = nearest_names(name, known)
    return f" (did you mean {near[0]!r}?)" if near else ""


def nearest_names(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Those of the names that are most like one that none of them is, whatever their capitals; none if none is near."""
    small: dict[str, str] = {}
    for each in known:
        small.setdefault(each.lower(), each)
    return [small[near] for near in difflib.get_close_matches(name.lower(), small, n=count, cutoff=0.5)]
