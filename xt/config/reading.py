"""Frozen dataclasses from plain values, as files and command lines have them; pydantic says what does not fit."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from xt.config.catalogue import fields_of, is_section
from xt.errors import ConfigError
from xt.option_types import in_words

Section = TypeVar("Section")


def section_from(cls: type[Section], values: Mapping[str, Any], name: str) -> Section:
    """The dataclass of these values, whose keys it has.

    Args:
        name: of the section, for messages.
    Raises:
        ConfigError: a value is missing, of another type, or refused by the dataclass itself.
    """
    _check(values, cls, name)
    try:
        section: Section = _adapter(cls).validate_python(values)  # type: ignore[arg-type]
        return section
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        refused = first.get("ctx", {}).get("error")
        if isinstance(refused, ConfigError):
            raise refused from None
        raise ConfigError(_sentence(first["loc"], values, cls, name)) from None


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _check(values: Mapping[str, Any], cls: type, prefix: str) -> None:
    """Refuse what pydantic would take in good part, or say in other words."""
    for key, kind in fields_of(cls).items():
        name = f"{prefix}.{key}"
        if key not in values:
            continue
        value = values[key]
        if value is None and not (is_section(kind) or _takes_nothing(kind)):
            raise ConfigError(
                f"{name} must be {in_words(kind)}, got nothing (null); leave the line out for the default"
            )
        if is_section(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{name} must be a section with keys such as {next(iter(fields_of(kind)))!r}, got {value!r}"
                )
            _check(value, kind, name)
        elif isinstance(value, bool) and kind is not Any and bool not in (kind, *get_args(kind)):
            raise ConfigError(_wrong(name, kind, value))


def _takes_nothing(kind: Any) -> bool:
    return kind is Any or type(None) in get_args(kind)


def _sentence(place: Sequence[str | int], values: Mapping[str, Any], cls: type, name: str) -> str:
    """What is wrong with the value of the field that lies at a place, or within which it does."""
    value: Any = values
    kind: Any = cls
    for part in place:
        if not is_section(kind):
            break
        name, kind = f"{name}.{part}", fields_of(kind)[str(part)]
        if part not in value:
            return f"{name} is missing"
        value = value[part]
    return _wrong(name, kind, value)


def _wrong(name: str, kind: Any, value: Any) -> str:
    # YAML makes numbers of classes such as 0 and 1, and false and true of no and yes.
    parts = value if isinstance(value, list) else [value]
    quotes = "a text" in in_words(kind) and any(isinstance(part, bool | int | float) for part in parts)
    return f"{name} must be {in_words(kind)}, got {str(value)!r}{'; put such a text into quotes' if quotes else ''}"
