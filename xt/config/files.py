"""Configurations as YAML files: a file and the one that it names as its base; texts as they stand there."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from xt.config.catalogue import all_keys
from xt.errors import ConfigError
from xt.labels.formats.text_files import OneKeyOnce
from xt.recipes import configuration_file, recipes

_BASE = "base"
# Of a recipe, what is about pixels.
_OF_PIXELS = {
    "model": ("encoder", "pretrained", "region_size", "tokens_per_region", "foreground"),
    "augmentation": ("brightness", "contrast", "saturation"),
}
_TEXT, _NOTHING = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


def read_with_base(
    path: Path, typed: Mapping[str, Any] | None = None, above: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """The keys of a file and, below them, those of the file or recipe it names as its base.

    Where features stand for pixels (`data.features`), a recipe's region encoder and changes of colour are left out, as
    they have no meaning then; a file of one's own stands as it is.

    Args:
        typed: what the command line says, by key.
    Raises:
        ConfigError: a file is missing or not YAML, or a base leads back to the file itself.
    """
    values, typed = read_file(path), dict(typed or {})
    for section, key in (("data", "features"), ("optim", "unfreeze_at")):
        own = values.get(section)
        if isinstance(own, Mapping) and own.get(key):
            typed.setdefault(f"{section}.{key}", own[key])
    base = values.pop(_BASE, None)
    if typed.get("data.features") and path in recipes().values():
        values = _without_pixels(values, stays_so=not typed.get("optim.unfreeze_at"))
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(
            f"{path}: base must be the path of another configuration file or the name of a recipe, got {base!r}"
        )
    chain = (*above, path.resolve())
    try:
        below = configuration_file(base, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: base: {error}") from None
    if below.resolve() in chain:
        raise ConfigError(f"{path}: base {base} leads back to the file itself")
    return merged(read_with_base(below, typed, chain), values)


def _without_pixels(recipe: Mapping[str, Any], stays_so: bool) -> dict[str, Any]:
    """A recipe for features.

    Args:
        stays_so: pixels are never read, so that there is no region encoder.
    """
    found = {name: dict(section) for name, section in recipe.items()}
    data = found.get("data", {})
    if "augmentation" in data:
        kept = {
            key: value for key, value in data["augmentation"].items() if key not in _OF_PIXELS["augmentation"]
        }
        data["augmentation"] = kept
    if stays_so:
        for key in _OF_PIXELS["model"]:
            found.get("model", {}).pop(key, None)
    return found


def is_list_of_texts(kind: Any) -> bool:
    """Whether a field holds some texts (or nothing)."""
    return any(option in (tuple[str, ...], Sequence[str]) for option in (kind, *get_args(kind)))


def listed_texts(text: str) -> list[str] | None:
    """The texts of a YAML list such as "[no, yes]", as they stand there; None if it is none."""
    try:
        values = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both sets of keys, section by section; where both have a value, that of `above`."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        result[key] = merged(below[key], value) if both else value
    return result


def read_file(path: Path) -> dict[str, Any]:
    """The keys that stand in a file itself, `base` among them.

    Raises:
        ConfigError: it is missing or not YAML.
    """
    try:
        # As bytes: YAML itself knows byte order marks and UTF-16.
        loader = Loader(path.read_bytes())
        try:
            node = loader.get_single_node()
            if node is not None:
                _keep_texts(node, _kinds())
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable YAML file ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected sections such as 'model:' and 'data:', got {type(values).__name__}"
        )
    return values


def _kinds() -> dict[str, Any]:
    """The type of each key, also where configurations of before had those of labels."""
    kinds = {name: key.type for name, key in all_keys().items()}
    return {name.replace("labels.", "data.", 1): kind for name, kind in kinds.items()} | kinds


def _keep_texts(node: yaml.Node, kinds: Mapping[str, Any], name: str = "") -> None:
    """Have plain words be texts where texts are wanted: classes called no, yes, on, ~, 1e3, 08 or 2020-01-01, which
    YAML would have be booleans, nothing, numbers and dates."""
    kind = kinds.get(name)
    if kind is None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                _keep_texts(value, kinds, f"{name}.{key.value}" if name else key.value)
    elif is_list_of_texts(kind) and isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            if isinstance(inner, yaml.ScalarNode):
                inner.tag = _TEXT
    elif {kind, *get_args(kind)} - {str | None, type(None)} == {str} and isinstance(node, yaml.ScalarNode):
        # Nothing may be meant where a text may be left out.
        node.tag = node.tag if node.tag == _NOTHING else _TEXT


class Loader(OneKeyOnce, yaml.SafeLoader):
    """YAML as people write it: a key once, and 3e-4 a number."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
