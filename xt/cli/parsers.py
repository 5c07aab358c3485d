"""Parsers of commands, with examples at the end of their help."""

import argparse
from collections.abc import Sequence


class CommandParser(argparse.ArgumentParser):
    """Options are named in full; `examples` are lines that can be typed."""

    def __init__(self, command: str, description: str, examples: Sequence[str]) -> None:
        super().__init__(prog=f"xt {command}", description=description, allow_abbrev=False)
        self.examples = examples

    def format_help(self) -> str:
        return super().format_help() + in_help(self.examples)


def in_help(examples: Sequence[str]) -> str:
    """The end of a command's help."""
    return "\n".join(["", "examples:", *(f"  {example}" for example in examples), ""])


def a_number(text: str) -> float | str:
    """A budget of regions or a time: what is no number goes on as it is, to be refused as other odd ones are, in a
    sentence and without the usage of the command."""
    try:
        return float(text)
    except ValueError:
        return text
