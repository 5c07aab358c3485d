"""Runs a page of the documentation as it stands, in the current folder, as a reader would who copies block after block.

| block | what is done |
|---|---|
| `python` | run, all of a page in one namespace; what stands behind `# -> ` is compared with the value's `repr` |
| `sh` | each line that begins with `xt` is given to the command line, which has to succeed |
| any with `title="NAME"` | written to the file NAME |
| below `<!-- not run: REASON -->` | nothing |
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt.cli.main import main

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` says why it is not run, `line` is that of its first line in the page."""

    kind: str
    title: str | None
    reason: str | None
    text: str
    line: int

    def commands(self) -> list[str]:
        """The lines of a shell, those that a back-slash continues put together."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["kind"],
            found["title"],
            found["reason"],
            found["text"],
            text.count("\n", 0, found.start("text")) + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def pictures_of(page: Path) -> dict[Path, str]:
    """The page's pictures, and which file of what it writes each is a copy of."""
    found = re.findall(r"\]\(([^)]+)\)\n<!-- picture from (.+?) -->", page.read_text(encoding="utf-8"))
    return {page.parent / picture: source for picture, source in found}


def run_page(page: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the blocks in order; what the page's Python has defined.

    Args:
        more: words behind each `xt train`.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks_of(page):
        where = f"{page.name}, line {block.line}"
        if block.title is not None:
            Path(block.title).write_text(block.text)
        elif block.reason is not None:
            continue
        elif block.kind == "python":
            _run_python(block, names, where)
        elif block.kind == "sh":
            for command in block.commands():
                words = shlex.split(command, comments=True)
                assert words[0] == "xt", f"{where}: {command!r} is no command of xt; say why it is not run"
                extra = more if words[1] == "train" else ()
                assert main([*words[1:], *extra]) == 0, f"{where}: {command}"
    return names


def _run_python(block: Block, names: dict[str, Any], where: str) -> None:
    for code, said in _statements(block.text):
        if said is None:
            exec(compile(code, where, "exec"), names)
        else:
            found = repr(eval(code, names))
            assert found == said, f"{where}: {code} is {found}, the page says {said}"


def _statements(text: str) -> Iterator[tuple[str, str | None]]:
    """Pieces of code without a value that is told, and those with one."""
    lines: list[str] = []
    for line in text.splitlines():
        code, _, said = line.partition("  # -> ")
        if not said:
            lines.append(line)
            continue
        if lines:
            yield "\n".join(lines), None
            lines = []
        yield code, said
    if lines:
        yield "\n".join(lines), None
