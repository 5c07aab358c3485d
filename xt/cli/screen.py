"""Sentences on a terminal: broken between words. In a pipe or a file each stays one line, to be searched."""

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
