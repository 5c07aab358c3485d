"""What a command line says of a configuration: `--section.key=value`, or the same as two words."""

from collections.abc import Sequence
from typing import Any, get_args

import yaml

from xt.config.catalogue import all_keys
from xt.config.files import Loader, is_list_of_texts, listed_texts
from xt.data.sources import SOURCES
from xt.errors import ConfigError


def settings(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """(key, value) of each setting, in order.

    Raises:
        ConfigError: a word is no setting, has no value, or its value is not YAML.
    """
    found = []
    words = iter(overrides)
    for word in words:
        if not word.startswith("--"):
            raise ConfigError(f"expected a setting such as --optim.lr=3e-4, got {word!r}")
        name, equals, text = word[2:].partition("=")
        if not equals:
            following = next(words, None)
            if following is None:
                raise ConfigError(f"{name} has no value: write --{name}=VALUE")
            text = following
        found.append((name, _value(name, text)))
    return found


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set the value of a key in nested dictionaries."""
    *above, last = name.split(".")
    for part in above:
        if not isinstance(values.get(part), dict):
            values[part] = {}
        values = values[part]
    values[last] = value


def _value(name: str, text: str) -> Any:
    """What a text means for a key; what it should be is checked later, as that of a file."""
    key = all_keys().get(name)
    kind = None if key is None else key.type
    if kind is not None and is_list_of_texts(kind):
        # Its brackets may be left out where the list has one text.
        return None if text == "null" else listed_texts(text) or ([] if text.strip() == "[]" else _one(text))
    if {kind, *get_args(kind)} - {str | None, type(None)} == {str}:
        may_be_none = type(None) in get_args(kind) or name.removeprefix("data.") in SOURCES
        return None if text == "null" and may_be_none else text
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not readable: {' '.join(str(error).split())}") from None


def _one(text: str) -> Any:
    # What begins a list and is none is said as such.
    return text if text.startswith("[") else [text]
