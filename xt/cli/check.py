"""`xt check TABLE|FOLDER [--config CONFIG]`: everything about images and labels, said before anything is trained."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.configuration import joined
from xt.cli.parsers import CommandParser
from xt.cli.progress import ProgressBars
from xt.cli.screen import fitted_columns
from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.config.run import RunConfig

EXAMPLES = (
    "xt check slides.csv",
    "xt check slides.csv --config classification --html slides.html",
)
_ABOUT = (
    "Opens every image and label of a table, a folder (of class sub-folders, or of images alone) or a file of COCO "
    "instances, and tells what is missing, damaged or odd, and what xt train would do with it. Settings of the run may "
    "follow as for xt train, such as --labels.mask_values '[0, 255]'."
)


def run_raw(argv: Sequence[str]) -> int:
    """Check what the command line names."""
    parser = CommandParser("check", _ABOUT, EXAMPLES)
    add_arguments(parser)
    arguments, overrides = parser.parse_known_args(joined(argv))
    wrong = [option for option in overrides if "." not in option.partition("=")[0]]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    return _run(arguments, overrides)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="TABLE|FOLDER", help="left out, it is what the configuration names"
    )
    parser.add_argument(
        "--config", metavar="CONFIG", help="the run's: a file, or a recipe's name; else one is assumed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with the images and their labels"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that open images (default: one a core)"
    )
    parser.add_argument(
        "--journal", metavar="FILE",
        help="what was found out about files that do not change (default: in the user's cache folder; '' for none)",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="look at all files again")
    parser.add_argument("--no-costs", action="store_true", help="do not plan memory and time")
    parser.add_argument(
        "--device", metavar="DEVICE", help="to plan for: cpu, cuda, or the memory of one, such as 40GB"
    )
    parser.epilog = "Exit status: 0 fine, 1 warnings, 2 cannot be trained, or refused."


def _run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from xt.checking import CheckOptions, check
    from xt.checking.page import write_page
    from xt.output import write_atomically

    options = CheckOptions(
        workers=arguments.workers,
        journal=arguments.journal,
        fresh=arguments.fresh,
        costs=not arguments.no_costs,
        device=arguments.device,
    )
    source = arguments.source
    with ProgressBars() as bars:
        bar = bars.add("check", unit="images")
        if arguments.config is not None:
            from xt.config.parser import load_config

            if source is None or _names_images(arguments.config):
                config = load_config(arguments.config, overrides)
                config = config if source is None else _about(source, config)
            else:
                # Settings such as data.group_column are known only of a kind of source.
                config = load_config(arguments.config, [f"--data.{_kind_of(source)}={source}", *overrides])
            result = check(config, options, progress=bar.update)
        elif source is None:
            raise ConfigError(
                "expected a table or a folder, or --config CONFIG; usage: xt check TABLE|FOLDER"
            )
        else:
            result = check(source, options, overrides=overrides, progress=bar.update)
        if arguments.html is not None:
            write_page(result, arguments.html, progress=bars.add("draw", unit="images").update)
    if arguments.json is not None:
        write_atomically(arguments.json, json.dumps(result.as_dict(), indent=1, ensure_ascii=False) + "\n")
    print(fitted_columns(str(result), sys.stdout))
    for path in (arguments.json, arguments.html):
        if path is not None:
            print(f"wrote {path}")
    return result.status


def _kind_of(source: str) -> str:
    from xt.data.sources import kind_at

    return kind_at(source).kind


def _names_images(config: str) -> bool:
    """Whether a configuration's file says where images are; recipes do not."""
    from xt.config.files import read_with_base
    from xt.data.sources import SOURCES
    from xt.recipes import configuration_file

    said = read_with_base(configuration_file(config), {})
    data = said.get("data") if isinstance(said, dict) else None
    return isinstance(data, dict) and any(data.get(kind) for kind in SOURCES)


def _about(source: str, config: "RunConfig") -> "RunConfig":
    """The configuration with a table, a folder or a file of instances in the place of its own."""
    from xt.data.sources import TableSource, kind_at, source_at

    own = config.data
    root = own.root if isinstance(own, TableSource) and kind_at(source) is TableSource else None
    return replace(config, data=source_at(source, own, root=root))
