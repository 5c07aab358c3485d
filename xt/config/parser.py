"""From YAML and the command line to a configuration, and back.

`load_config("run.yaml", ["--optim.lr=3e-4"])` gives a `RunConfig`. The keys are the dataclasses' fields and
nothing else: an unknown key fails and names the nearest, wherever it stands. Of the section `data` they are those of
the kind of source, of `labels` and `evaluation` those of the head's task. Only a file may begin with `base:`, the path
of another one, seen from its own folder, or a recipe's name; its keys count where the file has none itself.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from xt.config.before import converted, is_of_before, was_written_by_a_run
from xt.config.catalogue import all_keys, fields_of, is_mapping, keys_here, sections, unknown, variants
from xt.config.files import read_with_base
from xt.config.overrides import put, settings
from xt.config.reading import section_from
from xt.config.run import RunConfig
from xt.data.sources import SOURCES, Source
from xt.errors import ConfigError
from xt.model.config import ModelConfig
from xt.recipes import configuration_file
from xt.registry import nearest
from xt.tasks import task_of

COMMAND_LINE = "the command line"


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
    with _said_by(COMMAND_LINE):
        typed = dict(settings(overrides))
    return _build(read_with_base(configuration_file(path), typed), overrides, str(path))


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
    if config.data.kind:
        result["data"] = {"kind": config.data.kind, **result["data"]}
    return result


def config_to_yaml(config: RunConfig) -> str:
    """The configuration as a YAML text that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


class _Given:
    """What a file and a command line say together, and which of them said it."""

    def __init__(self, of_file: Mapping[str, Any], overrides: Sequence[str], source: str) -> None:
        if not isinstance(of_file, Mapping):
            raise ConfigError(
                f"{source}: expected sections such as 'model:' and 'data:', got {type(of_file).__name__}"
            )
        if was_written_by_a_run(of_file):
            of_file = converted(of_file)
        self.source = source
        # A section with nothing in it ("train:") is None in YAML and means its defaults.
        self.of_file = {key: {} if value is None else value for key, value in of_file.items()}
        for name in set(sections()) & self.of_file.keys():
            if not isinstance(self.of_file[name], Mapping):
                known = next(key for cls in variants(name).values() for key in fields_of(cls))
                raise ConfigError(
                    f"{source}: {name} must be a section with keys such as {known!r}, got {self.of_file[name]!r}"
                )
        self.values = deepcopy(self.of_file)
        with _said_by(COMMAND_LINE):
            self.typed = settings(overrides)
        for name, value in self.typed:
            if name in sections():
                raise ConfigError(
                    f"{COMMAND_LINE}: {name} is a section: expected a key of it, such as --{name}.KEY=VALUE"
                )
            put(self.values, name, value)
        # With nothing in it a source's own field only says that another is meant: `folder: null`.
        data = self.values.get("data", {})
        self.not_meant = {f"data.{kind}" for kind in SOURCES if kind in data and data[kind] in (None, [])}
        for name in self.not_meant:
            del data[name.removeprefix("data.")]

    def section(self, name: str) -> dict[str, Any]:
        """All values of a section."""
        return dict(self.values.get(name, {}))

    def place(self, section: str = "") -> str:
        """Where a section's values were read, for messages about them together."""
        return COMMAND_LINE if any(name.startswith(section) for name, _ in self.typed) else self.source

    def check_keys(self, kind: str, task: str) -> None:
        """Refuse keys that a configuration with this kind of source and this task does not have."""
        self._check(keys_here(kind, task) | self.not_meant, kind, task)

    def check_names(self) -> None:
        """Refuse keys that no configuration has."""
        self._check(set(all_keys()) | self.not_meant, "", "")

    def _check(self, known: set[str], kind: str, task: str) -> None:
        parts = {name.rpartition(".")[0] for name in known} | set(sections())
        keys = all_keys()
        free = tuple(f"{name}." for name in known if is_mapping(keys[name].type))
        typed = [name for name, _ in self.typed]
        for place, names in ((self.source, _names(self.of_file, keys)), (COMMAND_LINE, typed)):
            for name in names:
                if name not in known and name not in parts and not name.startswith(free):
                    raise ConfigError(f"{place}: {unknown(name, kind, task)}{self._hint(place)}")

    def _hint(self, place: str) -> str:
        if place == self.source and is_of_before(self.of_file):
            return f"; xt convert {place} NEW.yaml writes a configuration of before as it is now"
        return ""


def _build(values: Mapping[str, Any], overrides: Sequence[str], source: str) -> RunConfig:
    given = _Given(values, overrides, source)
    of_model = given.section("model")
    if given.section("data").get("features"):
        # Where only features are there, nothing finds them.
        of_model.setdefault("encoder", "features")
    if not of_model.get("encoder"):
        given.check_names()
        raise ConfigError(
            f"{source}: model.encoder is missing; name a region encoder, any timm model with feature maps such as "
            "convnext_atto"
        )
    with _said_by(given.place("model.")):
        known = fields_of(ModelConfig)
        model = section_from(ModelConfig, {key: of_model[key] for key in of_model if key in known}, "model")
        task = task_of(model.head)
    with _said_by(given.place("data.")):
        kind, of_data = _source_of(given.section("data"))
    given.check_keys(kind, task.name)
    built: dict[str, Any] = {"model": model}
    with _said_by(given.place("data.")):
        built["data"] = section_from(SOURCES.get(kind, Source), of_data, "data")
    for name in sections():
        if name not in built:
            with _said_by(given.place(f"{name}.")):
                found = variants(name)
                built[name] = section_from(found.get(task.name) or found[""], given.section(name), name)
    with _said_by(given.place()):
        return RunConfig(**built)


@contextmanager
def _said_by(place: str) -> Iterator[None]:
    """Name the place of what is wrong."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _source_of(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of source that the section `data` is about, "" where nothing says one yet, and the section's fields.

    Raises:
        ConfigError: it names two sources, or there is no such kind.
    """
    rest = dict(values)
    kind = rest.pop("kind", None)
    if kind is not None and kind not in list(SOURCES):
        raise ConfigError(
            f"data.kind must be one of {', '.join(SOURCES)}, got {str(kind)!r}{nearest(str(kind), SOURCES)}"
        )
    given = [name for name in SOURCES if name in rest]
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(f'data.{name}' for name in given)} were both given; give one of them"
        )
    return str(kind or (given[0] if given else "")), rest


def _names(values: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> list[str]:
    """The keys in nested values, as deep as `keys` are known."""
    found = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and any(known.startswith(f"{name}.") for known in keys):
            found += _names(value, keys, f"{name}.")
        else:
            found.append(name)
    return found
