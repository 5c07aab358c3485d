"""`xt recipes`: the configurations inside the package, listed or shown."""

import argparse
import sys
from itertools import groupby

from xt.cli.screen import fitted
from xt.errors import ConfigError

EXAMPLES = (
    "xt recipes",
    "xt recipes show classification > mine.yaml",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=("list", "show"),
        default="list",
        help="the names (default), or one of them",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the one to show")
    parser.epilog = (
        "A recipe's name goes wherever a configuration file does, also as `base:` of a file of your own, which then "
        "says only what it changes."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.recipes import read, recipes, summary

    if arguments.what == "show":
        if arguments.name is None:
            raise ConfigError("expected the name of a recipe: xt recipes show NAME; xt recipes lists them")
        print(read(arguments.name), end="")
        return 0
    if arguments.name is not None:
        raise ConfigError(f"xt recipes list takes no name; did you mean xt recipes show {arguments.name}?")
    for _, group in groupby(recipes(), lambda name: name.rpartition("/")[0]):
        names = list(group)
        width = max(map(len, names))
        for name in names:
            print(fitted(summary(name), sys.stdout, f"{name:<{width}}  "))
    return 0
