"""Which keys a run's configuration has: of each section, and of `data`, `labels` and `evaluation` those of each kind of
source and of each task."""

import dataclasses
import difflib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Literal, NamedTuple, TypeGuard, get_origin, get_type_hints

from xt.config.run import RunConfig
from xt.data.sources import SOURCES, Source
from xt.errors import ConfigError
from xt.tasks import TASKS, Task

_OF_KINDS, _OF_TASKS = "data", ("labels", "evaluation")


class Key(NamedTuple):
    """One key.

    Attributes:
        type: of its value, as in annotations.
        owners: the kinds of source or the tasks that have it; none where all configurations do.
    """

    type: Any
    owners: tuple[str, ...]


def variants(section: str) -> dict[str, type]:
    """The dataclasses that a section may be, by kind of source or task; by "" where there is only one."""
    if section == _OF_KINDS:
        return dict(SOURCES)
    if section in _OF_TASKS:
        return {name: getattr(task, section.capitalize()) for name, task in _tasks()}
    return {"": get_type_hints(RunConfig)[section]}


def sections() -> list[str]:
    """Their names, in order."""
    return [item.name for item in dataclasses.fields(RunConfig)]


def all_keys() -> Mapping[str, Key]:
    """Every key that some configuration has, such as "data.augmentation.flips"."""
    return _all_keys(_tasks())


def _tasks() -> tuple[tuple[str, Task], ...]:
    """Those that there are now; one of a package that cannot be imported is said by whoever wants it."""
    found = []
    for name in TASKS:
        with suppress(ConfigError):
            found.append((name, TASKS[name]))
    return tuple(found)


@cache
def _all_keys(tasks: tuple[tuple[str, Task], ...]) -> Mapping[str, Key]:
    found: dict[str, Key] = {}
    for section in sections():
        for owner, cls in variants(section).items():
            for name, kind in flat(cls, f"{section}."):
                owners = found[name].owners if name in found else ()
                found[name] = Key(kind, (*owners, owner) if owner else ())
    return found | {f"{_OF_KINDS}.kind": Key(Literal[tuple(SOURCES)], ())}


def keys_here(kind: str, task: str) -> set[str]:
    """The keys of a configuration with this kind of source ("" for none yet) and this task."""
    of_none = {name for name, _ in flat(Source, f"{_OF_KINDS}.")}
    return {
        name
        for name, key in all_keys().items()
        if not key.owners or {kind, task} & set(key.owners) or (not kind and name in of_none)
    }


def flat(cls: type, prefix: str = "") -> list[tuple[str, Any]]:
    """The keys of a section and of the sections in it, with their types."""
    found: list[tuple[str, Any]] = []
    for name, kind in fields_of(cls).items():
        found += flat(kind, f"{prefix}{name}.") if is_section(kind) else [(prefix + name, kind)]
    return found


def fields_of(cls: type) -> Mapping[str, Any]:
    """The fields of a section with their types."""
    return _fields_of(cls)


@cache
def _fields_of(cls: type) -> Mapping[str, Any]:
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls) if item.init}


def is_section(kind: Any) -> TypeGuard[type]:
    """Whether a field has keys of its own that are known."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def is_mapping(kind: Any) -> bool:
    """Whether a field has keys that only the part knows that they are for."""
    return get_origin(kind) in (dict, Mapping)


def unknown(name: str, kind: str, task: str) -> str:
    """Why a configuration with this kind of source and this task has no key of this name, and which was meant."""
    here = keys_here(kind, task)
    key = all_keys().get(name)
    if key is None:
        # With no source yet, it may be any.
        meant = here if kind else here | {other for other in all_keys() if other.startswith(f"{_OF_KINDS}.")}
        return f"unknown key {name!r}{_nearest(name, meant)}"
    owners = " and ".join(map(repr, key.owners))
    if name.startswith(f"{_OF_KINDS}."):
        what = (
            f"data.kind is {kind!r}"
            if kind
            else f"{' or '.join(f'data.{one}' for one in key.owners)} is missing"
        )
        return f"{name} is for data of the kind {owners}, but {what}"
    return f"{name} is for {owners}, but model.head is {task!r}{_nearest_beside(name, here)}"


def _nearest_beside(name: str, here: set[str]) -> str:
    """A hint at the nearest key of the same section."""
    section = name.split(".")[0]
    found = difflib.get_close_matches(name, [key for key in here if key.startswith(f"{section}.")], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _nearest(name: str, here: set[str]) -> str:
    """A hint at the key that was meant: the nearest here, or one of another section, kind or task of that name."""
    known = all_keys()
    ordered = [key for key in known if key in here] + [key for key in known if key not in here]
    last_parts = [key.rsplit(".", 1)[-1] for key in ordered]
    last = name.rsplit(".", 1)[-1]
    if f"labels.{last}" in known and name.startswith(f"{_OF_KINDS}."):
        # Where configurations of before had it.
        ordered.insert(0, f"labels.{last}")
        last_parts.insert(0, last)
    # A key in the wrong section is as common a slip as a misspelt one.
    found = [key for key, part in zip(ordered, last_parts, strict=True) if part == last][:1]
    found = found or difflib.get_close_matches(name, [*here, *sections()], n=1)
    found = found or difflib.get_close_matches(name, known, n=1)
    found = found or [
        ordered[last_parts.index(part)] for part in difflib.get_close_matches(last, last_parts, n=1)
    ]
    if not found:
        return f"; the sections are {', '.join(sections())}"
    owners = () if found[0] in here or found[0] not in known else known[found[0]].owners
    of = f" (of {', '.join(owners)})" if owners else ""
    return f"; did you mean {found[0]!r}{of}?"
