"""The configuration that a command line names: of `xt train`, `xt compare` and `xt check`."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.parsers import in_help
from xt.errors import ConfigError
from xt.images.suffixes import is_image_name
from xt.labels.formats.suffixes import TABLES
from xt.recipes import configuration_file, is_configuration

if TYPE_CHECKING:
    from xt.config.run import RunConfig

_SOURCES = (*TABLES, ".json")
_FLAGS = {"--resume": "--train.resume=auto", "--whole": "--train.whole=true"}
_SHORT = {
    "--folds": "--train.folds",
    "--repeats": "--train.repeats",
    "--workers": "--train.workers",
    "--cluster": "--train.cluster",
    "--devices": "--train.devices",
    "--nodes": "--train.nodes",
    "--region-parallel": "--train.region_parallel",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, for completion alone: the configuration says what they may be."""
    from xt.config.help import choices_of_keys

    parser.add_argument("configuration", metavar="CONFIG")
    for name in _FLAGS:
        parser.add_argument(name, action="store_true")
    for name in _SHORT:
        parser.add_argument(name)
    for name, choices in choices_of_keys().items():
        parser.add_argument(f"--{name}", choices=choices)


def config_of(
    command: str, argv: Sequence[str], usage: str, about: str = "", examples: Sequence[str] = ()
) -> "RunConfig | None":
    """The configuration of a command line; None if it only asked for help, which is then printed.

    `--resume` is short for `--train.resume=auto`, `--whole` for `--train.whole=true`, and `--devices` for
    `--train.devices`, as some others.
    """
    if "-h" in argv or "--help" in argv:
        from xt.config.help import format_keys

        print(format_keys(usage, about) + in_help(examples), end="")
        return None
    arguments = [_in_full(argument) for argument in argv]
    files, overrides = _files_and_overrides(arguments)
    if not arguments:
        raise ConfigError(
            f"expected a recipe (xt recipes lists them) or a configuration file; usage: {usage}"
        )
    _refuse_sources(command, files, overrides)
    if len(files) > 1:
        raise ConfigError(f"expected one configuration, got {', '.join(files)}; usage: {usage}")
    if files:
        # Before anything that takes seconds to be loaded.
        configuration_file(files[0])
    from xt.config.parser import load_config

    config = load_config(files[0] if files else None, overrides)
    if config.data.encoded is None:
        _refuse_what_is_known_now(config)
    return config


def _refuse_what_is_known_now(config: "RunConfig") -> None:
    """Refuse what needs no PyTorch to be refused, before it is loaded."""
    if not config.data.kind:
        raise ConfigError(
            "nothing says where the images are: --data.table slides.csv names a table of them, --data.folder FOLDER a "
            "folder with a sub-folder for each class"
        )
    if config.model.pretrained is True:
        from xt.region_encoders.hub import refuse_what_cannot_be_fetched

        refuse_what_cannot_be_fetched(config.model.encoder)


def _refuse_sources(command: str, files: list[str], overrides: Sequence[str]) -> None:
    """Refuse tables and folders that stand where a configuration should, with the line that was meant."""
    sources = [file for file in files if _is_source(file) and not is_configuration(file)]
    if not sources:
        return
    if len(files) == 2 and len(sources) == 1:
        recipe = next(file for file in files if file not in sources)
        line = shlex.join(["xt", command, recipe, f"--data.{kind_of(sources[0])}", sources[0], *overrides])
        raise ConfigError(f"the images that {recipe} is trained on are named by a setting:\n  {line}")
    from xt.checking.proposal import propose

    raise ConfigError(propose(sources[0], joined(overrides), command=command))


def _is_source(text: str) -> bool:
    """Whether a word is a table, a folder, a file of COCO instances or an image, so no configuration."""
    return os.path.isdir(text) or Path(text).suffix.lower() in _SOURCES or is_image_name(text)


def kind_of(source: str) -> str:
    """The setting below `data` that names a table, a folder or a file of COCO instances."""
    return "folder" if os.path.isdir(source) else "coco" if source.lower().endswith(".json") else "table"


def joined(argv: Sequence[str]) -> list[str]:
    """`--data.table x` as `--data.table=x`, so that the value is not taken for something else."""
    result: list[str] = []
    for argument in argv:
        last = result[-1] if result else ""
        if last.startswith("--") and "." in last and "=" not in last and not argument.startswith("--"):
            result[-1] = f"{last}={argument}"
        else:
            result.append(argument)
    return result


def _in_full(argument: str) -> str:
    if argument in _FLAGS:
        return _FLAGS[argument]
    name, equals, value = argument.partition("=")
    return _SHORT.get(name, name) + equals + value


def _files_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    files, overrides = [], []
    takes_value = False
    for argument in arguments:
        if argument.startswith("--"):
            overrides.append(argument)
            takes_value = "=" not in argument
        elif takes_value:
            overrides.append(argument)
            takes_value = False
        else:
            files.append(argument)
    return files, overrides
