"""`xt doctor`: what this machine has, and what it lacks."""

import argparse
import json

EXAMPLES = (
    "xt doctor",
    "xt doctor --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.epilog = "Exit status: 0 all that is needed is there, 1 some of it is not."


def run(arguments: argparse.Namespace) -> int:
    from xt.doctor import doctor

    report = doctor()
    print(json.dumps(report.as_dict(), indent=1, ensure_ascii=False) if arguments.json else report)
    return 0 if report.is_fit else 1
