"""Parts made by name: the house's own, those of installed packages, and those that a notebook or a file registers.

A package offers parts by entry points (`xt.image_sources`, `xt.region_encoders`, `xt.context_encoders`, `xt.heads`,
`xt.tasks`); a notebook calls `xt.register`; the command line takes a file that does (`--import`). Configurations and
checkpoints name parts, never code. See `docs/extending.md`.
"""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from xt.errors import ConfigError
from xt.option_types import check_option

Part = TypeVar("Part")

KINDS = {
    "image_sources": "image source",
    "region_encoders": "region encoder",
    "context_encoders": "context encoder",
    "region_choices": "choice of regions",
    "heads": "head",
    "tasks": "task",
}
"""What a part is called, by the group that it is registered in; of entry points the group is "xt." and this."""

IMPORTED = "XT_IMPORT"
"""Environment variable with the files that `--import` named, joined as paths are: processes that are started inherit
it."""

_registered: dict[str, dict[str, Any]] = {group: {} for group in KINDS}


class Registry(MutableMapping[str, Part]):
    """The parts of one kind by name. Those of packages are imported when they are asked for.

    Args:
        group: a key of `KINDS`.
        own: the house's, which nobody else's take the place of.
        prepare: what a registered or installed part becomes; raises `ConfigError` for what is none.
    """

    def __init__(self, group: str, own: Mapping[str, Part], prepare: Callable[[Any], Part]) -> None:
        self.group = group
        self.kind = KINDS[group]
        self._own = dict(own)
        self._prepare = prepare
        self._loaded: dict[str, tuple[Any, Part]] = {}

    def __getitem__(self, name: str) -> Part:
        """The part of that name.

        Raises:
            KeyError: there is none.
            ConfigError: it cannot be imported, is no such part, or has the name of one of the house.
        """
        given = self._others()
        if name in self._own:
            return self._own[name]
        part = given[name]
        if name not in self._loaded or self._loaded[name][0] is not part:
            found = _imported(self.kind, part) if isinstance(part, EntryPoint) else part
            self._loaded[name] = part, self._prepare(found)
        return self._loaded[name][1]

    def __setitem__(self, name: str, part: Part) -> None:
        self._own[name] = part

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self._others()])

    def __len__(self) -> int:
        return len(self._own) + len(self._others())

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others()

    def unknown(self, name: str) -> ConfigError:
        """What to raise where a name that nobody has registered is asked for."""
        return ConfigError(
            f"unknown {self.kind} {name!r}{nearest(name, self)}; there are {', '.join(self)}. One of your own comes in "
            "by installing its package or by --import FILE"
        )

    def _others(self) -> Mapping[str, Any]:
        """Those registered and those of packages, by name; the first come before the second."""
        import_named_files()
        installed = {entry.name: entry for entry in _installed(self.group)}
        others = installed | _registered[self.group]
        for name in others.keys() & self._own.keys():
            raise ConfigError(f"there is a {self.kind} {name!r} in xt: register yours under another name")
        return others


def register(group: str, name: str, part: Any = None) -> Any:
    """Let a part be known under a name, in this process and in those that it starts by `--import`.

        xt.register("heads", "median", MedianHead)

        @xt.register("context_encoders", "mean")
        class Mean(xt.ContextEncoder): ...

    Args:
        group: "image_sources", "region_encoders", "context_encoders", "region_choices", "heads" or "tasks".
        name: in configurations and checkpoints; one that was registered before is replaced.
        part: the class, or for region encoders what makes one; None to decorate it.

    Returns:
        The part.

    Raises:
        ConfigError: there is no such group.
    """
    if group not in KINDS:
        raise ConfigError(
            f"parts are registered in one of {', '.join(KINDS)}, not in {group!r}{nearest(group, KINDS)}"
        )
    if part is None:
        return lambda decorated: register(group, name, decorated)
    _registered[group][name] = part
    return part


def import_file(path: str) -> None:
    """Import a file of parts, now and in all processes that this one starts; the code in it runs.

    Raises:
        ConfigError: there is no such file, or it cannot be imported.
    """
    named = os.environ.get(IMPORTED, "").split(os.pathsep)
    absolute = str(Path(path).absolute())
    if absolute not in named:
        os.environ[IMPORTED] = os.pathsep.join([*filter(None, named), absolute])
    _import(absolute)


def import_named_files() -> None:
    """Import the files that the environment names, each once."""
    for path in filter(None, os.environ.get(IMPORTED, "").split(os.pathsep)):
        _import(path)


_files: set[str] = set()


def _import(path: str) -> None:
    if path in _files:
        return
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise ConfigError(f"--import takes a Python file that registers parts; {path} is none")
    _files.add(path)
    # By its own name, so that objects of its classes can be sent to other processes.
    sys.path.insert(0, str(file.parent))
    try:
        importlib.import_module(file.stem)
    except Exception as error:  # whatever that code raises
        _files.discard(path)
        raise ConfigError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"xt.{group}"))


def _imported(kind: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever that package raises
        package = entry.dist.name if entry.dist is not None else entry.value
        raise ConfigError(
            f"the {kind} {entry.name!r} of the package {package} cannot be imported ({type(error).__name__}: {error})"
        ) from error


def subclass_of(base: Any, kind: str) -> Callable[[Any], Any]:
    """For `Registry`: takes classes derived from this one only."""

    def prepare(part: Any) -> Any:
        if not (isinstance(part, type) and issubclass(part, base)):
            raise ConfigError(
                f"a {kind} is a class derived from {base.__module__}.{base.__name__}, not {part!r}"
            )
        return part

    return prepare


def create(
    registry: Registry[type[Part]], name: str, derived: Collection[str] = (), /, **options: Any
) -> Part:
    """Make the part of that name.

    Args:
        derived: keyword arguments that follow from other settings: nobody is told to give them.
        options: keyword arguments of the class.

    Raises:
        ConfigError: there is no part of that name, its class takes no such option, or one of another type.
    """
    if name not in registry:
        raise registry.unknown(name)
    part = registry[name]
    known = inspect.signature(part).parameters
    for option in options:
        if option not in known:
            own = [each for each in known if each not in derived]
            raise ConfigError(
                f"the {registry.kind} {name!r} has no option {option!r}{nearest(option, own)}; it takes "
                f"{', '.join(own) or 'none'}"
            )
    hints = get_type_hints(part.__init__, include_extras=True)
    for option, value in options.items():
        if option in hints:
            check_option(f"{option} of the {registry.kind} {name!r}", value, hints[option])
    return part(**options)


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
