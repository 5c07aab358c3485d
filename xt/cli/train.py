"""`xt train CONFIG [--resume] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]`."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.parsers import in_help
from xt.cli.progress import Bar, ProgressBars
from xt.cli.screen import fitted
from xt.errors import ConfigError
from xt.images.suffixes import is_image_name
from xt.recipes import configuration_file, is_configuration

if TYPE_CHECKING:
    from xt.config.run import RunConfig

EXAMPLES = (
    "xt train classification --data.table slides.csv --train.out runs/first",
    "xt train mine.yaml --optim.lr 1e-4 --train.out runs/second",
)
_MANY = 27
_VALIDATED_SHOWN = 3
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".json")
USAGE = "xt train CONFIG [--resume] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]"
_ABOUT = (
    "--resume is short for --train.resume=auto; --devices, --nodes and --region-parallel for the keys of train that "
    "are called so."
)
_SHORT = {
    "--devices": "--train.devices",
    "--nodes": "--train.nodes",
    "--region-parallel": "--train.region_parallel",
}


def run_raw(argv: Sequence[str]) -> int:
    """Train as the configuration says; prints the metrics of the best epoch's model."""
    config = config_of("train", argv, USAGE, _ABOUT, EXAMPLES)
    if config is None:
        return 0
    from xt.training.run import train

    with ProgressBars() as bars:
        stages = StageBars(bars, steps="steps" if config.train.max_seconds is None else "s")
        result = train(config, report=stages if config.train.progress else None)
    if not result.is_main:
        return 0
    print(f"split {result.metrics['split']}; trained {result.metrics['epochs']} epochs in "
          f"{result.metrics['training_seconds']:.0f} s")  # fmt: skip
    for part in ("validation", "test"):
        if part in result.metrics:
            print(fitted(f"{part}: {in_words(result.metrics[part])}", sys.stdout))
    print(f"wrote {result.folder / 'model.safetensors'}")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, for completion alone: the configuration says what they may be."""
    from xt.config.parser import choices_of_keys

    parser.add_argument("configuration", metavar="CONFIG")
    parser.add_argument("--resume", action="store_true")
    for name in _SHORT:
        parser.add_argument(name)
    for name, choices in choices_of_keys().items():
        parser.add_argument(f"--{name}", choices=choices)


def config_of(
    command: str, argv: Sequence[str], usage: str, about: str = "", examples: Sequence[str] = ()
) -> "RunConfig | None":
    """The configuration of a command line; None if it only asked for help, which is then printed.

    `--resume` is short for `--train.resume=auto`, and `--devices` for `--train.devices`, as some others.
    """
    if "-h" in argv or "--help" in argv:
        from xt.config.parser import format_keys

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
    if config.data.tokens is None:
        _refuse_what_is_known_now(config)
    return config


def _refuse_what_is_known_now(config: "RunConfig") -> None:
    """Refuse what needs no PyTorch to be refused, before it is loaded."""
    if not config.data.sources:
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
    return os.path.isdir(text) or Path(text).suffix.lower() in _TABLES or is_image_name(text)


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


def in_words(summary: dict[str, object]) -> str:
    """One line of metrics."""
    parts = []
    for name, value in summary.items():
        if value is None or name.endswith("_interval") or name.startswith("classes"):
            # Nothing to measure; what stands behind the number it belongs to, or behind all.
            continue
        if len(summary) > _MANY and "(" in name:
            # A number of one of many classes.
            continue
        if name == "images":
            parts.append(f"{value} image{'s' if value != 1 else ''}")
        else:
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        interval = summary.get(f"{name}_interval")
        if isinstance(interval, list):
            parts[-1] += f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    if not any(isinstance(value, float) for value in summary.values()):
        parts.append("nothing labelled there to measure by")
    lacking = summary.get("classes_not_measured")
    if isinstance(lacking, list) and lacking:
        parts.append(
            f"{summary['classes_measured']} of {summary['classes']} classes are labelled there, not "
            f"{', '.join(map(repr, lacking[:12]))}{', ...' if len(lacking) > 12 else ''}"
        )
    return ", ".join(parts)


class StageBars:
    """A progress bar for each stage of a run, and a line of numbers for each epoch.

    Args:
        steps: what training is counted in; "s" where the clock ends it.
    """

    def __init__(self, bars: ProgressBars, prefix: str = "", steps: str = "steps") -> None:
        self.bars = bars
        self.prefix = prefix
        self.steps = steps
        self.stages: dict[str, Bar] = {}

    def __call__(self, what: str, done: int, total: int, values: dict[str, float]) -> None:
        if what not in self.stages:
            unit = self.steps if what == "train" else "images"
            self.stages[what] = self.bars.add(f"{self.prefix}{what}", total=total, unit=unit)
        if "epoch" in values:
            self._print_epoch(values)
        self.stages[what].update(done, total, note=newest_in_words(values))

    def _print_epoch(self, values: dict[str, float]) -> None:
        numbers = [
            f"{name} {value:.4g}"
            for name, value in values.items()
            # Neither the number of one of the classes nor what could not be measured.
            if name not in ("epoch", "seconds") and "(" not in name and not math.isnan(value)
        ]
        self.bars.print(f"{self.prefix}epoch {values['epoch']:.0f}: {', '.join(numbers)}")


def newest_in_words(values: dict[str, float]) -> str:
    """The newest numbers of a run that goes on, briefly: `loss 0.53, val/top1 0.91, 12.4 regions/s, 1.2 GB`."""
    if "epoch" in values:
        return ""  # a line of its own
    parts = []
    if "train/loss" in values:
        parts.append(f"loss {values['train/loss']:.4g}")
    # Neither the number of one of the classes nor what could not be measured; of many metrics the first ones.
    validated = [
        f"{name} {value:.3g}"
        for name, value in values.items()
        if name.startswith("val/") and "(" not in name and not math.isnan(value)
    ]
    parts += validated[:_VALIDATED_SHOWN]
    if "regions/s" in values:
        parts.append(f"{values['regions/s']:.3g} regions/s")
    if "memory" in values:
        parts.append(f"{values['memory'] / 1e9:.1f} GB")
    return ", ".join(parts)


def _in_full(argument: str) -> str:
    if argument == "--resume":
        return "--train.resume=auto"
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
