"""Sentences on a terminal: broken between words. In a pipe or a file each stays one line, to be searched."""

import re
import shutil
import textwrap
from typing import TextIO


def fitted(text: str, stream: TextIO, head: str = "") -> str:
    """`text` behind `head`, in lines as wide as the terminal that `stream` writes to.

    Lines that begin with a space are left as they are: they are to be copied.
    """
    if not stream.isatty():
        return head + text
    columns = max(shutil.get_terminal_size().columns, len(head) + 20)
    lines = []
    for line in text.split("\n"):
        if line.startswith(" ") or not line:
            lines.append(line)
            continue
        lines += textwrap.wrap(
            line,
            columns,
            initial_indent="" if lines else head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def fitted_columns(text: str, stream: TextIO) -> str:
    """Lines of a name, two spaces or more, and what is said of it: what does not fit goes on below what is said.

    Lines with a command to be copied are left as they are.
    """
    columns = shutil.get_terminal_size().columns
    lines = []
    for line in text.split("\n"):
        if not stream.isatty() or len(line) <= columns or re.search(r"\bxt [a-z]+ .*--", line):
            lines.append(line)
            continue
        named = re.match(r" *\S+(?: \S+)*  +", line)
        indent = len(named[0]) if named and len(named[0]) < columns / 2 else 2
        first = line[: len(named[0])] if named else ""
        lines += textwrap.wrap(
            line.removeprefix(first),
            columns,
            initial_indent=first,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
