"""From YAML and the command line to a configuration, and back.

`load_config("run.yaml", ["--optim.lr=3e-4"])` gives a `RunConfig`. The keys are the dataclasses' fields and
nothing else: an unknown key fails and names the nearest, wherever it stands. Only a file may begin with `base:`, the
path of another one, seen from its own folder, or a recipe's name; its keys count where the file has none itself.
"""

import argparse
import dataclasses
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import yaml

from xt.config.files import fields_of, is_list_of_texts, listed_texts, read_with_base
from xt.config.run import RunConfig
from xt.errors import ConfigError
from xt.recipes import configuration_file


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML file or a recipe, changed by command-line overrides such as `--optim.lr=3e-4`.

    Args:
        path: of the file; or the name of a recipe of `xt.recipes`, where there is no such file.
        overrides: `--section.key=value`, or the same as two arguments.
    Raises:
        ConfigError: there is neither such a file nor such a recipe, it is not YAML, a key is unknown, a value has the
            wrong type or is out of range.
    """
    if path is None:
        return _build({}, overrides, "the configuration")
    return _build(read_with_base(configuration_file(path)), overrides, str(path))


def format_keys(usage: str, about: str = "") -> str:
    """Every key with its meaning, range, type and default, as text for a terminal.

    Args:
        about: the command's own options.
    """
    from jsonargparse import set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _parser()
    parser.usage = usage
    parser.description = (
        "CONFIG is a recipe's name (xt recipes lists them) or a YAML file with the keys below in their sections; on "
        f"the command line they come before the file's. {about}"
    )
    # jsonargparse offers a file for each section, too; here one file, and its base, has them all.
    text: str = re.sub(
        r"^  --[\w.]+ CONFIG\s+Path to a configuration file\.\n", "", parser.format_help(), flags=re.MULTILINE
    )
    return text


def choices_of_keys() -> dict[str, list[str] | None]:
    """Every key, and what it may be where that is one of a few words."""
    return {name: _choices(kind) for name, kind in _all_keys(RunConfig)}


def _choices(kind: Any) -> list[str] | None:
    if kind is bool:
        return ["true", "false"]
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else None


def config_from_dict(values: Mapping[str, Any], source: str = "the configuration") -> RunConfig:
    """The configuration from nested dictionaries, as `config_to_dict` gives them; `source` is named in
    errors."""
    return _build(values, (), source)


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Nested plain dictionaries and lists, fit for JSON and YAML."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, Path) else value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def config_to_yaml(config: RunConfig) -> str:
    """The configuration as a YAML text that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def _build(values: Mapping[str, Any], overrides: Sequence[str], source: str) -> RunConfig:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{source}: expected sections such as 'model:' and 'data:', got {type(values).__name__}"
        )
    _check_keys(values, RunConfig, "", source)
    _check_overrides(overrides)
    # One parser checks the file and the command line, so that both know the same types.
    parser = _parser()
    place = source
    try:
        namespace = parser.parse_object(_with_encoder(_without_empty(values), overrides, source))
        if overrides:
            place = "the command line"
            namespace = parser.parse_args(_with_lists_of_one(overrides), namespace=namespace)
        return RunConfig(**vars(parser.instantiate(namespace)))
    except (argparse.ArgumentError, TypeError) as error:
        raise _type_error(str(error), place) from None
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    # A section with nothing in it ("train:") is None in YAML and means its defaults.
    return {key: {} if value is None else dict(value) for key, value in values.items()}


def _parser() -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RunConfig)
    return parser


def _with_encoder(values: dict[str, Any], overrides: Sequence[str], source: str) -> dict[str, Any]:
    # The one key without a default; given on the command line only, it must not be missed in the file.
    if not values.get("model", {}).get("encoder"):
        if not any(re.match("--model.encoder(=|$)", argument) for argument in overrides):
            raise ConfigError(
                f"{source}: model.encoder is missing; name a region encoder, any timm model with feature "
                "maps such as "
                "convnext_atto"
            )
        values["model"] = {**values.get("model", {}), "encoder": ""}
    return values


def _is_section(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _takes_nothing(kind: Any) -> bool:
    return kind is Any or type(None) in get_args(kind)


def _check_keys(values: Mapping[str, Any], cls: type, prefix: str, source: str) -> None:
    known = fields_of(cls)
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise ConfigError(f"{source}: unknown key {name!r}{_nearest(name)}")
        kind = known[key]
        if value is None and not (_is_section(kind) or _takes_nothing(kind)):
            raise ConfigError(
                f"{source}: {name} must be {_in_words(kind)}, got nothing (null); leave the line out for the default"
            )
        if not _is_section(kind) or (value is None and not prefix):
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{source}: {name} must be a section with keys such as {next(iter(fields_of(kind)))!r}, got "
                f"{value!r}"
            )
        _check_keys(value, kind, f"{name}.", source)


def _check_overrides(overrides: Sequence[str]) -> None:
    known = dict(_all_keys(RunConfig))
    for argument in overrides:
        if not argument.startswith("--"):
            continue
        name = argument[2:].split("=", 1)[0].removesuffix("+")
        # Below a dictionary such as model.encoder_options every key is the encoder's own.
        inside = any(name.startswith(f"{key}.") and _is_mapping(kind) for key, kind in known.items())
        if name not in known and not inside:
            raise ConfigError(f"the command line: unknown key {name!r}{_nearest(name)}")


def _with_lists_of_one(overrides: Sequence[str]) -> list[str]:
    """`--data.coco a.json` for what is a list of texts: on the command line its brackets may be left out."""
    lists = {f"--{name}" for name, kind in _all_keys(RunConfig) if is_list_of_texts(kind)}
    result: list[str] = []
    for argument in overrides:
        name, equals, value = argument.partition("=")
        if result and result[-1] in lists:
            name, equals, value = "", "", argument
        elif not (name in lists and equals):
            result.append(argument)
            continue
        texts = listed_texts(value)
        if texts is None:
            # What begins a list and is none gets the parser's own sentence.
            texts = None if value.startswith("[") or value == "null" else [value]
        result.append(f"{name}{equals}{value if texts is None else json.dumps(texts)}")
    return result


def _all_keys(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in fields_of(cls).items():
        if _is_section(kind):
            yield from _all_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def _nearest(name: str) -> str:
    known = [key for key, _ in _all_keys(RunConfig)]
    sections = [item.name for item in dataclasses.fields(RunConfig)]
    near = difflib.get_close_matches(name, [*known, *sections], n=1, cutoff=0.6)
    last = name.rsplit(".", 1)[-1]
    # A key in the wrong section is as common a slip as a misspelt one.
    moved = [key for key in known if key.rsplit(".", 1)[-1] == last]
    found = moved or near
    if not found:
        by_last = difflib.get_close_matches(last, [key.rsplit(".", 1)[-1] for key in known], n=1)
        found = [key for key in known if by_last and key.rsplit(".", 1)[-1] == by_last[0]]
    return f"; did you mean {found[0]!r}?" if found else f"; the sections are {', '.join(sections)}"


def _type_error(message: str, place: str) -> ConfigError:
    match = re.search(r'Parser key "([^"]+)"', message)
    if match is None:
        return ConfigError(f"{place}: {' '.join(message.split())}")
    name = match.group(1)
    kind = dict(_all_keys(RunConfig)).get(name)
    value = re.findall(r"(?:Got|Given) value: (.*)", message)
    came = f", got {value[-1]!r}" if value else f" ({' '.join(message.split())})"
    # YAML makes numbers of classes such as 0 and 1, and false and true of no and yes.
    is_no_text = value and re.fullmatch(r"[\[(]?(-?\d|True|False).*", value[-1])
    hint = "; put such a text into quotes" if is_no_text and "a text" in _in_words(kind) else ""
    return ConfigError(f"{place}: {name} must be {_in_words(kind)}{came}{hint}")


def _in_words(kind: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "nothing (null)",
    }
    if kind in words:
        return words[kind]
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(str(option) for option in options)}"
    if get_origin(kind) in (tuple, Sequence):
        return f"a list, each {_in_words(options[0])}"
    if _is_mapping(kind):
        return "a section of keys and values"
    return " or ".join(dict.fromkeys(_in_words(option) for option in options)) if options else str(kind)
