"""Draws the house: its rooms (the folders and loose modules of xt/), and which imports which.

    python docs/structure.py docs/structure.svg              # as it is
    python docs/structure.py --commit fbfecda docs/before.svg

The rooms stand on floors: a room is one floor below the lowest of those it imports. An arc on the right goes from a
room up to one that it imports, the wider the more files do; arcs on the left go to a room of the same floor or one
further down, which only circles have. Imports within functions count, those for type checkers do not.
"""

import argparse
import ast
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx

LINE, MIDDLE, HALF_A_NAME = 24, 190, 85
# How far an arc bows out, as a part of its height; the curve reaches three quarters of the way to its middle points.
BOW = 0.45
Imports = Counter[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--commit", help="the tree of this commit instead of the files that lie here")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    files = dict(files_of(root) if arguments.commit is None else files_at(root, arguments.commit))
    imports, sizes = imports_between_rooms(files), Counter(room_of(path) for path in files)
    arguments.out.write_text(drawing(imports, sizes))
    floors = floors_of(imports, sizes)
    print(
        f"{len(sizes)} rooms, of which {sum(is_loose(room, files) for room in sizes)} loose modules, on "
        f"{1 + max(floors.values())} floors; wrote {arguments.out}"
    )


def files_of(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((root / "xt").rglob("*.py")):
        yield str(path.relative_to(root)), path.read_text()


def files_at(root: Path, commit: str) -> Iterator[tuple[str, str]]:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout

    for path in git("ls-tree", "-r", "--name-only", commit, "xt").splitlines():
        if path.endswith(".py"):
            yield path, git("show", f"{commit}:{path}")


def room_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def is_loose(room: str, files: Mapping[str, str]) -> bool:
    return f"xt/{room}.py" in files and room != "__init__"


def imports_between_rooms(files: Mapping[str, str]) -> Imports:
    """How many files of one room import another."""
    found: Imports = Counter()
    rooms = {room_of(path) for path in files}
    for path, text in files.items():
        here = room_of(path)
        if here != "__init__":
            found.update((here, there) for there in (rooms_imported(text) & rooms) - {here})
    return found


def rooms_imported(text: str) -> set[str]:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "xt":
            modules += [f"xt.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
    return {module.split(".")[1] for module in modules if module.startswith("xt.")}


def floors_of(imports: Imports, rooms: Mapping[str, int]) -> dict[str, int]:
    """0 for those that import nothing; rooms in a circle stand on one floor."""
    graph = networkx.DiGraph(list(imports))
    graph.add_nodes_from(rooms)
    circles = networkx.condensation(graph)
    height: dict[int, int] = {}
    for circle in reversed(list(networkx.topological_sort(circles))):
        height[circle] = max((1 + height[below] for below in circles.successors(circle)), default=0)
    return {room: height[circle] for room, circle in circles.graph["mapping"].items() if room in rooms}


def drawing(imports: Imports, sizes: Mapping[str, int]) -> str:
    floors = floors_of(imports, sizes)
    rooms = sorted((room for room in sizes if room != "__init__"), key=lambda room: (floors[room], room))
    row = {room: LINE * (number + 1) for number, room in enumerate(rooms)}
    height = LINE * (len(rooms) + 1)
    width = round(MIDDLE + HALF_A_NAME + 0.75 * BOW * height)
    parts = [
        band
        for number in range(1 + max(floors.values()))
        for band in floor(number, width, rooms, floors, row)
    ]
    parts += [arc(row[here], row[there], count) for (here, there), count in sorted(imports.items())]
    for room in rooms:
        label = f"{room} ({sizes[room]})" if sizes[room] > 1 else room
        parts.append(
            f'<text x="{MIDDLE}" y="{row[room] + 4}" text-anchor="middle" fill="#123">{label}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def floor(
    number: int, width: int, rooms: list[str], floors: Mapping[str, int], row: Mapping[str, int]
) -> Iterator[str]:
    """Its band, grey on every second floor, and its number."""
    places = [row[room] for room in rooms if floors[room] == number]
    if places:
        top = min(places) - LINE // 2
        yield (
            f'<rect x="0" y="{top}" width="{width}" height="{max(places) - min(places) + LINE}" '
            f'fill="{"#f3f5f7" if number % 2 else "#ffffff"}"/>'
            f'<text x="8" y="{top + 16}" fill="#9ab" font-size="11">{number}</text>'
        )


def arc(here: int, there: int, count: int) -> str:
    """Up on the right; what goes down, on the left and in red."""
    up = there < here
    x, bow = (MIDDLE + HALF_A_NAME, BOW) if up else (MIDDLE - HALF_A_NAME, -BOW)
    bent = x + bow * abs(here - there)
    colour = "#2a6f97" if up else "#c1121f"
    return (
        f'<path d="M{x},{here} C{bent:.0f},{here} {bent:.0f},{there} {x},{there}" fill="none" stroke="{colour}" '
        f'stroke-opacity="0.45" stroke-width="{min(1 + count / 4, 5):.1f}"/>'
    )


if __name__ == "__main__":
    main()
