"""Fills the tables and figures of the pages from the files of results, so that none is copied by hand.

    python benchmarks/tables.py             # writes the pages anew
    python benchmarks/tables.py --check     # writes nothing; status 1 if a figure differs from its file

A page says where a table belongs, by a name of `published.TABLES`:

    <!-- measured NAME -->
    what stands here is written anew
    <!-- end -->

Of each device the newest `results/RESULTS-DATE.json` counts, and of older ones what it does not have. Every row says
its date, device and commit, and whether the code that it measured has changed since, as `git log` knows it.
"""

import argparse
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHANGED = "; its code has changed since"
_NUMBER = re.compile(r"(\d+\. )?")
_PLACE = re.compile(r"(<!-- measured (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Row = Mapping[str, Any]
Cell = str | Callable[[Row], object]


@dataclass(frozen=True)
class Measured:
    """The content of a file of results, and whether the code it measured has changed since."""

    content: Mapping[str, Any]
    changed: bool = False

    @property
    def rows(self) -> Sequence[Row]:
        return self.content.get("rows", [])

    @property
    def device(self) -> str:
        gpu, cores = self.content.get("gpu"), self.content.get("cores")
        cpu = re.sub(r"\((R|TM)\)|Processor|CPU", "", str(self.content.get("cpu", "")))
        return gpu or f"{' '.join(cpu.split())}, {cores} cores"

    @property
    def origin(self) -> str:
        """Date, device, commit if it was noted, and a word where the code is newer."""
        parts = (self.content["date"], self.device, self.content.get("commit"))
        return ", ".join(filter(None, parts)) + (CHANGED if self.changed else "")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One marked place of a page.

    Attributes:
        page: the file, from the root of the repository.
        results: the name of its files in benchmarks/results, without date.
        code: files and folders whose change makes the figures old.
        write: Markdown from what was measured, one for each device, newest last.
        key: of rows, by which a newer file replaces an older one's; None to take the newest file alone.
        empty: said as long as there is no file.
    """

    page: str
    results: str
    code: Sequence[str]
    write: Callable[[Sequence[Measured]], str]
    key: str | None = None
    empty: str = "Not measured yet."


def rows(columns: Mapping[str, Cell], wanted: Callable[[Row], bool] = bool) -> Callable[..., str]:
    """A Markdown table with a line for each row of the results; its last column says where the row comes from.

    Args:
        columns: heading -> the key of the row, or what makes a cell of the row.
        wanted: which rows to show.
    """

    def write(measured: Sequence[Measured]) -> str:
        lines = [[*columns, "measured"]]
        for each in measured:
            for row in filter(wanted, each.rows):
                lines.append([*(cell(row, how) for how in columns.values()), each.origin])
        return markdown(lines)

    return write


def lines(head: Sequence[str], write: Callable[[Measured], Sequence[Sequence[str]]]) -> Callable[..., str]:
    """Likewise, from lines of cells in which a function puts together what belongs into one."""
    return lambda measured: markdown(
        [[*head, "measured"], *([*line, each.origin] for each in measured for line in write(each))]
    )


def text(write: Callable[[Measured], str]) -> Callable[..., str]:
    """What the newest results say, in words or as a block of code; its `origin` belongs in it."""
    return lambda measured: write(measured[-1])


def words(write: Callable[[Measured], str]) -> Callable[..., str]:
    """Likewise, in paragraphs whose lines are broken here."""
    return lambda measured: wrapped(write(measured[-1]))


def wrapped(words: str) -> str:
    """Paragraphs and numbered lines in lines of 120 letters."""
    return "\n".join(
        textwrap.fill(
            line,
            120,
            subsequent_indent=" " * len(_NUMBER.match(line)[0]),
            break_on_hyphens=False,  # type: ignore[index]
        )
        for line in words.splitlines()
    )


def cell(row: Row, how: Cell) -> str:
    value = row.get(how, "") if isinstance(how, str) else how(row)
    if isinstance(value, float):
        return f"{value:,.{3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head; the first and the last column are text, the others numbers."""
    rule = ["---", *["---:"] * (len(lines[0]) - 2), "---"]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def newest(results: str, code: Sequence[str], folder: Path, key: str | None = None) -> list[Measured]:
    """Of each device the newest file, the newest of all last; with a key also what older ones have beside it."""
    found: list[Measured] = []
    known: dict[str, set[Any]] = {}
    for path in sorted(folder.glob(f"{results}-[0-9]*.json"), reverse=True):
        content = json.loads(path.read_text())
        device = Measured(content).device
        is_first, rows_known = device not in known, known.setdefault(device, set())
        new = [row for row in content.get("rows", []) if key is None or row[key] not in rows_known]
        if is_first or (key is not None and new):
            found.append(Measured(content | {"rows": new}, has_changed(content, code)))
        rows_known |= {row[key] for row in new} if key is not None else set()
    return found[::-1]


def has_changed(content: Mapping[str, Any], code: Sequence[str], root: Path = ROOT) -> bool:
    """Whether the code was changed after the results' commit; after their day, where that is all that is known."""
    commit = str(content.get("commit") or "").split(" ")[0]
    if commit and _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None:
        return bool(_git(root, "log", "-1", "--format=%h", f"{commit}..HEAD", "--", *code))
    changed = _git(root, "log", "-1", "--format=%cs", "--", *code)
    return bool(changed) and str(changed) > content["date"]


def filled(text: str, tables: Mapping[str, Table], folder: Path) -> str:
    """A page's text with what belongs between its marks."""

    def fill(place: re.Match[str]) -> str:
        table = tables[place[2]]
        measured = newest(table.results, table.code, folder, table.key)
        return f"{place[1]}{table.write(measured) if measured else table.empty}\n{place[4]}"

    return _PLACE.sub(fill, text)


def stripped(text: str) -> str:
    """Without what changes with every commit to the code, and the lines that it may break otherwise."""
    return " ".join(text.split()).replace(CHANGED, "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def pages(tables: Iterable[Table]) -> list[Path]:
    return sorted({ROOT / table.page for table in tables})


def main() -> int:
    from published import TABLES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a figure differs")
    options = parser.parse_args()
    different = False
    for page in pages(TABLES.values()):
        before = page.read_text()
        after = filled(before, TABLES, ROOT / "benchmarks" / "results")
        if stripped(before) != stripped(after):
            different = True
            print(f"{page.relative_to(ROOT)} {'differs from' if options.check else 'follows'} its results")
        if not options.check:
            page.write_text(after)
    return int(options.check and different)


if __name__ == "__main__":
    sys.exit(main())
