"""`xt train CONFIG.yaml [--resume] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.progress import Bar, ProgressBars
from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.configuration import RunConfig

_MANY = 27
USAGE = "xt train CONFIG.yaml [--resume] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]"
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
    config = config_of(argv, USAGE, _ABOUT)
    if config is None:
        return 0
    from xt.training.run import train

    with ProgressBars() as bars:
        result = train(config, report=StageBars(bars) if config.train.progress else None)
    if not result.is_main:
        return 0
    print(f"split {result.metrics['split']}; trained {result.metrics['epochs']} epochs in "
          f"{result.metrics['training_seconds']:.0f} s")  # fmt: skip
    for part in ("validation", "test"):
        if part in result.metrics:
            print(f"{part}: {in_words(result.metrics[part])}")
    print(f"wrote {result.folder / 'model.safetensors'}")
    return 0


def config_of(argv: Sequence[str], usage: str, about: str = "") -> "RunConfig | None":
    """The configuration of a command line; None if it only asked for help, which is then printed.

    `--resume` is short for `--train.resume=auto`, and `--devices` for `--train.devices`, as some others.
    """
    from xt.configuration_parser import format_keys, load_config

    if "-h" in argv or "--help" in argv:
        print(format_keys(usage, about))
        return None
    arguments = [_in_full(argument) for argument in argv]
    files, overrides = _files_and_overrides(arguments)
    if len(files) > 1:
        raise ConfigError(f"expected one configuration file, got {', '.join(files)}; usage: {usage}")
    if not arguments:
        raise ConfigError(f"expected a configuration file; usage: {usage}")
    return load_config(Path(files[0]) if files else None, overrides)


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
    """A progress bar for each stage of a run, and a line of numbers for each epoch."""

    def __init__(self, bars: ProgressBars, prefix: str = "") -> None:
        self.bars = bars
        self.prefix = prefix
        self.stages: dict[str, Bar] = {}

    def __call__(self, what: str, done: int, total: int, values: dict[str, float]) -> None:
        if what not in self.stages:
            self.stages[what] = self.bars.add(f"{self.prefix}{what}", total=total)
        if "epoch" in values:
            self._print_epoch(values)
        self.stages[what].update(done, total)

    def _print_epoch(self, values: dict[str, float]) -> None:
        numbers = [
            f"{name} {value:.4g}"
            for name, value in values.items()
            # Neither the number of one of the classes nor what could not be measured.
            if name not in ("epoch", "seconds") and "(" not in name and not math.isnan(value)
        ]
        self.bars.print(f"{self.prefix}epoch {values['epoch']:.0f}: {', '.join(numbers)}")


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
